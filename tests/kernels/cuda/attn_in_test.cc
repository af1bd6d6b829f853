#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/kernels/cuda/twin_tensors.h"

namespace berth::kernels {
namespace {

// Three sequences in one step: a prompt from its start, a chunk in the middle, a decode row. Blocks lie scrambled in the pool,
// and what no token owns is NaN on both sides.
struct AttentionCase {
  int q_heads, kv_heads, head_dim, window;
  float softcap;
  bool alibi;
};

class CudaAttentionTest : public TwinTensors {
 protected:
  static constexpr int kBlocks = 16;

  void MakeBatch() {
    const std::vector<int> first = {0, 130, 200}, count = {70, 33, 1};
    std::vector<int32_t> position, sequence, start = {0}, context;
    for (int s = 0; s < 3; ++s) {
      for (int i = 0; i < count[s]; ++i) {
        position.push_back(first[s] + i);
        sequence.push_back(s);
      }
      start.push_back(static_cast<int32_t>(position.size()));
      context.push_back(first[s] + count[s]);
    }
    Twin& table = Make(DType::kI32, DType::kI32, {3, 4});
    for (int i = 0; i < 12; ++i) table.host.data<int32_t>()[i] = kBlocks - 1 - i;
    Upload(table);
    const Twin &positions = Ints(position), &sequences = Ints(sequence), &starts = Ints(start), &contexts = Ints(context);
    const auto batch = [&](const auto& side) {
      return Batch{.tokens = static_cast<int>(position.size()),
                   .sequences = 3,
                   .position = side(positions),
                   .sequence_of = side(sequences),
                   .query_start = side(starts),
                   .context_length = side(contexts),
                   .block_table = side(table)};
    };
    host_batch_ = batch([](const Twin& twin) { return twin.host; });
    device_batch_ = batch([](const Twin& twin) { return twin.device; });
  }

  KvLayer Layer(const Tensor& pool, const AttentionCase& c) {
    const int64_t element = Info(pool.dtype()).block_bytes, head = 2 * kKvBlockTokens * c.head_dim * element;
    return {.base = static_cast<std::byte*>(pool.raw()),
            .dtype = pool.dtype(),
            .kv_heads = c.kv_heads,
            .key_dim = c.head_dim,
            .value_dim = c.head_dim,
            .block_stride = c.kv_heads * head,
            .head_stride = head};
  }

  Twin& MakePool(const AttentionCase& c) {
    Twin& pool = Values({kBlocks, c.kv_heads, 2 * kKvBlockTokens, c.head_dim});
    const std::vector<int> context = {70, 163, 201};
    for (int s = 0; s < 3; ++s) {
      for (int t = context[s]; t < 256; ++t) {
        const int64_t block = kBlocks - 1 - (s * 4 + t / kKvBlockTokens);
        for (int h = 0; h < c.kv_heads; ++h) {
          for (int half = 0; half < 2; ++half) {
            const int64_t row = (block * c.kv_heads + h) * 2 * kKvBlockTokens + half * kKvBlockTokens + t % kKvBlockTokens;
            std::fill_n(pool.host.data<float>() + row * c.head_dim, c.head_dim, std::nanf(""));
          }
        }
      }
    }
    Upload(pool);
    return pool;
  }

  Batch host_batch_, device_batch_;
};

TEST_P(CudaAttentionTest, AttnInMatchesTheCpu) {
  for (const bool everything : {false, true}) {
    const AttentionCase c{6, 2, 64, 0, 0, false};
    MakeBatch();
    const int64_t hidden = 192, n = (c.q_heads + 2 * c.kv_heads) * c.head_dim;
    Twin &residual = Values({host_batch_.tokens, hidden}), &weight = Values({n, hidden}, 0.07f);
    Twin& pool = Values({kBlocks, c.kv_heads, 2 * kKvBlockTokens, c.head_dim});
    Twin& q = Values({host_batch_.tokens, c.q_heads, c.head_dim});
    const Twin &down = Values({32, hidden}, 0.07f), &up = Values({n, 32}, 0.2f), &image_row = Ints({2, 70, 69, 103});
    const Twin &norm = Floats({hidden}, 1, 0.1f), &bias = Floats({n}, 0, 0.3f), &head_norm = Floats({c.head_dim}, 1, 0.1f);
    Twin& frequency = Make(DType::kF32, DType::kF32, {1, everything ? 16 : 32});
    for (int i = 0; i < frequency.host.dim(1); ++i) {
      frequency.host.data<float>()[i] = static_cast<float>(std::pow(10000.0, -i / static_cast<double>(frequency.host.dim(1))));
    }
    Upload(frequency);
    const auto run = [&](Ops& ops, auto side, const Batch& batch) {
      AttnInArgs args{.residual = side(residual),
                      .norm = {.weight = side(norm)},
                      .qkv = WeightOf(side(weight)),
                      .adapter = {.down = WeightOf(side(down)), .up = WeightOf(side(up))},
                      .rope = {.inverse_frequency = side(frequency)},
                      .q_heads = c.q_heads,
                      .kv_heads = c.kv_heads,
                      .head_dim = c.head_dim,
                      .batch = batch,
                      .kv = Layer(side(pool), c),
                      .q = side(q)};
      if (everything) {
        args.bias = side(bias);
        args.adapter.row = side(image_row);
        args.clip = 1.5f;
        args.log_length = 100;
        args.q_norm = {.weight = side(head_norm)};
        args.k_norm = {.weight = side(head_norm)};
        args.norm.kind = NormKind::kLayer;
        args.norm.bias = side(norm);
      }
      ops.AttnIn(args);
    };
    run(
        *cpu_, [](const Twin& twin) { return twin.host; }, host_batch_);
    run(
        *cuda_, [](const Twin& twin) { return twin.device; }, device_batch_);
    ExpectClose(q, Tolerance());
    ExpectClose(pool, Tolerance());
  }
}

struct LatentCase {
  int64_t hidden;
  int64_t q_rank;  // 0: queries come from the residual
  int heads, key_dim, value_dim, rank, rope_dim;
};

TEST_P(CudaAttentionTest, LatentInAndOutMatchTheCpu) {
  const LatentCase cases[] = {{256, 64, 16, 128, 128, 512, 64}, {64, 0, 4, 20, 12, 32, 8}, {96, 40, 5, 7, 9, 33, 6}};
  for (const LatentCase& c : cases) {
    MakeBatch();
    const int64_t rows = host_batch_.tokens, row = c.rank + c.rope_dim, q_in = c.q_rank > 0 ? c.q_rank : c.hidden;
    const float scale = 1 / std::sqrt(static_cast<float>(c.hidden));
    const Twin &residual = Values({rows, c.hidden}), &latent = Values({row, c.hidden}, scale);
    const Twin &q_down = Values({q_in, c.hidden}, scale), &norm = Floats({c.hidden}, 1, 0.1f);
    const Twin &q = Values({c.heads * (c.key_dim + c.rope_dim), q_in}, scale), &q_norm = Floats({q_in}, 1, 0.1f);
    const Twin &up = Values({int64_t{c.heads} * (c.key_dim + c.value_dim), c.rank}, 0.1f),
               &latent_norm = Floats({c.rank}, 1, 0.1f);
    Twin &pool = Values({kBlocks, kKvBlockTokens, row}), &q_out = Values({rows, c.heads, row});
    Twin &attended = Values({rows, c.heads, c.rank}), &out = Values({rows, c.heads, c.value_dim});
    Twin& frequency = Make(DType::kF32, DType::kF32, {1, c.rope_dim / 2});
    for (int i = 0; i < c.rope_dim / 2; ++i) frequency.host.data<float>()[i] = 1 / (1.f + static_cast<float>(i));
    Upload(frequency);
    const auto run = [&](Ops& ops, auto side, const Batch& batch) {
      const Tensor blocks = side(pool);
      const int64_t block_bytes = kKvBlockTokens * row * Info(blocks.dtype()).block_bytes;
      ops.LatentIn({.residual = side(residual),
                    .norm = {.weight = side(norm)},
                    .q_down = c.q_rank > 0 ? WeightOf(side(q_down)) : LinearWeight(),
                    .q_down_norm = {.weight = side(q_norm)},
                    .q = WeightOf(side(q)),
                    .latent = WeightOf(side(latent)),
                    .latent_norm = {.weight = side(latent_norm)},
                    .up = WeightOf(side(up)),
                    .rope = {.inverse_frequency = side(frequency)},
                    .heads = c.heads,
                    .key_dim = c.key_dim,
                    .value_dim = c.value_dim,
                    .rank = c.rank,
                    .batch = batch,
                    .kv = {.base = static_cast<std::byte*>(blocks.raw()),
                           .dtype = blocks.dtype(),
                           .kv_heads = 1,
                           .key_dim = static_cast<int>(row),
                           .value_dim = c.rank,
                           .values_in_keys = true,
                           .block_stride = block_bytes,
                           .head_stride = block_bytes},
                    .q_out = side(q_out)});
      ops.LatentOut(
          {.in = side(attended), .up = WeightOf(side(up)), .key_dim = c.key_dim, .value_dim = c.value_dim, .out = side(out)});
    };
    run(
        *cpu_, [](const Twin& twin) { return twin.host; }, host_batch_);
    run(
        *cuda_, [](const Twin& twin) { return twin.device; }, device_batch_);
    for (Twin* result : {&q_out, &pool, &out}) ExpectClose(*result, Tolerance());
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaAttentionTest, kDeviceTypes, DeviceTypeName);

}  // namespace
}  // namespace berth::kernels
