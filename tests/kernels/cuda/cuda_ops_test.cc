#include "kernels/cuda/cuda_ops.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/kernels/cuda/twin_tensors.h"

namespace berth::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

using CudaOpsTest = TwinTensors;

// Three sequences in one step: a prompt from its start, a chunk in the middle, a decode row. Blocks lie scrambled in the pool,
// and what no token owns is NaN on both sides.
struct AttentionCase {
  int q_heads, kv_heads, head_dim, window;
  float softcap;
  bool alibi;
};

class CudaAttentionTest : public CudaOpsTest {
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
    host_batch_ = {.tokens = static_cast<int>(position.size()),
                   .sequences = 3,
                   .position = positions.host,
                   .sequence_of = sequences.host,
                   .query_start = starts.host,
                   .context_length = contexts.host,
                   .block_table = table.host};
    device_batch_ = {.tokens = static_cast<int>(position.size()),
                     .sequences = 3,
                     .position = positions.device,
                     .sequence_of = sequences.device,
                     .query_start = starts.device,
                     .context_length = contexts.device,
                     .block_table = table.device};
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
                      .rope = {.inverse_frequency = side(frequency)},
                      .q_heads = c.q_heads,
                      .kv_heads = c.kv_heads,
                      .head_dim = c.head_dim,
                      .batch = batch,
                      .kv = Layer(side(pool), c),
                      .q = side(q)};
      if (everything) {
        args.bias = side(bias);
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

TEST_P(CudaOpsTest, MlpAndProjectionsMatchTheCpu) {
  for (const int64_t rows : {1, 7, 130}) {
    for (const bool everything : {false, true}) {
      const int64_t hidden = 320, inter = 448;
      Twin &residual = Values({rows, hidden}), &up = Values({2 * inter, hidden}, 0.06f), &out = Values({rows, inter});
      Twin &down = Values({hidden, inter}, 0.05f), &post = Values({rows, hidden});
      const Twin &norm = Floats({hidden}, 1, 0.1f), &bias = Floats({2 * inter}, 0, 0.2f),
                 &down_bias = Floats({hidden}, 0, 0.2f);
      const auto run = [&](Ops& ops, auto side) {
        MlpUpArgs args{
            .residual = side(residual), .norm = {.weight = side(norm)}, .weight = WeightOf(side(up)), .out = side(out)};
        if (everything) {
          args.bias = side(bias);
          args.activation = Activation::kGeluTanh;
        }
        ops.MlpUp(args);
      };
      run(*cpu_, [](const Twin& twin) { return twin.host; });
      run(*cuda_, [](const Twin& twin) { return twin.device; });
      ExpectClose(out, Tolerance());
      Twin& in = Values({rows, inter});
      const auto project = [&](Ops& ops, auto side) {
        ProjectOutArgs args{.in = side(in), .weight = WeightOf(side(down)), .residual = side(post)};
        if (everything) {
          args.bias = side(down_bias);
          args.post_norm = {.weight = side(norm)};
          args.scale = 0.5f;
        }
        ops.MlpDown(args);
      };
      project(*cpu_, [](const Twin& twin) { return twin.host; });
      project(*cuda_, [](const Twin& twin) { return twin.device; });
      ExpectClose(post, Tolerance());
    }
  }
}

// Without a norm, so that both sides route by the same numbers.
TEST_P(CudaOpsTest, MixturesOfExpertsMatchTheCpu) {
  const Routing routings[] = {
      {.experts = 16, .top_k = 4},
      {.experts = 6, .top_k = 2, .renormalize = true, .scale = 2},
      {.experts = 16, .top_k = 3, .score = RouterScore::kSigmoid, .groups = 4, .top_groups = 2, .group_best = 2}};
  for (const Routing& routing : routings) {
    for (const int64_t rows : {1, 7, 130}) {
      const int64_t hidden = 136, inter = 104, experts = routing.experts;
      Twin &residual = Values({rows, hidden}), &router = Values({experts, hidden}, 0.1f);
      Twin &up = Values({2 * experts * inter, hidden}, 0.09f), &down = Values({experts * hidden, inter}, 0.1f);
      const Twin& bias = Floats({experts}, 0, 0.2f);
      const auto run = [&](Ops& ops, auto side) {
        ops.Moe({.residual = side(residual),
                 .router = WeightOf(side(router)),
                 .router_bias = routing.score == RouterScore::kSigmoid ? side(bias) : Tensor(),
                 .routing = routing,
                 .up = WeightOf(side(up)),
                 .down = WeightOf(side(down))});
      };
      run(*cpu_, [](const Twin& twin) { return twin.host; });
      run(*cuda_, [](const Twin& twin) { return twin.device; });
      ExpectClose(residual, Tolerance());
    }
  }
}

TEST_P(CudaOpsTest, ARowsGateMatchesTheCpu) {
  const int64_t rows = 9, hidden = 320, inter = 448;
  Twin &residual = Values({rows, hidden}), &up = Values({2 * inter, hidden}, 0.06f), &gate = Values({1, hidden}, 0.06f),
       &out = Values({rows, inter});
  const auto run = [&](Ops& ops, auto side) {
    ops.MlpUp({.residual = side(residual), .weight = WeightOf(side(up)), .row_gate = WeightOf(side(gate)), .out = side(out)});
  };
  run(*cpu_, [](const Twin& twin) { return twin.host; });
  run(*cuda_, [](const Twin& twin) { return twin.device; });
  ExpectClose(out, Tolerance());
}

TEST_P(CudaOpsTest, EmbedAndHeadMatchTheCpu) {
  const int64_t hidden = 256, vocab = 1000;
  Twin &table = Values({vocab, hidden}, 0.1f), &out = Values({5, hidden}), &logits = Make(DType::kF32, DType::kF32, {3, vocab});
  const Twin &token = Ints({0, 999, 7, 7, 500}), &row = Ints({4, 0, 2}), &norm = Floats({hidden}, 1, 0.1f);
  const auto run = [&](Ops& ops, auto side) {
    ops.Embed({.token = side(token), .table = WeightOf(side(table)), .scale = 2, .out = side(out)});
    ops.Head({.residual = side(out),
              .row = side(row),
              .norm = {.weight = side(norm)},
              .weight = WeightOf(side(table)),
              .scale = 0.5f,
              .softcap = 20,
              .logits = side(logits)});
  };
  run(*cpu_, [](const Twin& twin) { return twin.host; });
  run(*cuda_, [](const Twin& twin) { return twin.device; });
  ExpectClose(out, Tolerance());
  ExpectClose(logits, Tolerance());
}

TEST_P(CudaOpsTest, PoolMatchesTheCpu) {
  const int64_t hidden = 300;
  const Twin &in = Values({9, hidden}), &norm = Floats({hidden}, 1, 0.1f);
  Twin& sum = Make(DType::kF32, DType::kF32, {4, hidden});
  const Twin &begin = Ints({0, 4}), &end = Ints({4, 9}), &slot = Ints({3, 1}), &fresh = Ints({1, 1}), &more = Ints({0, 0});
  const auto run = [&](Ops& ops, auto side) {
    for (const Twin* first : {&fresh, &more}) {
      ops.Pool({.residual = side(in),
                .norm = {.weight = side(norm)},
                .begin = side(begin),
                .end = side(end),
                .slot = side(slot),
                .fresh = side(*first),
                .sum = side(sum)});
    }
  };
  Upload(sum);
  run(*cpu_, [](const Twin& twin) { return twin.host; });
  run(*cuda_, [](const Twin& twin) { return twin.device; });
  ExpectClose(sum, Tolerance());
}

// Sampling works on f32 logits, whatever the activations are.
class CudaSampleTest : public CudaOpsTest {
 protected:
  struct Result {
    std::vector<int32_t> token, top_token;
    std::vector<float> logprob, top_logprob;
  };

  // Every row has a slot of its own with `params`; the logits of row r are `logits(r)`.
  template <typename Logits>
  std::pair<Result, Result> Sample(int rows, int vocab, const SlotSampling& params, Logits make, bool edits = false) {
    Twin& logits = Make(DType::kF32, DType::kF32, {rows, vocab});
    Twin& slots = Make(DType::kU8, DType::kU8, {rows, static_cast<int64_t>(sizeof(SlotSampling))});
    Twin& counts = Make(DType::kU32, DType::kU32, {rows, vocab});
    Twin& mask = Make(DType::kU32, DType::kU32, {rows, (vocab + 31) / 32});
    std::vector<int32_t> slot, position, edit_start = {0}, edit_token;
    std::vector<float> edit_value;
    for (int r = 0; r < rows; ++r) {
      const std::vector<float> row = make(r);
      std::copy(row.begin(), row.end(), logits.host.data<float>() + r * vocab);
      std::memcpy(slots.host_memory.data() + r * sizeof(params), &params, sizeof(params));
      slot.push_back(r);
      position.push_back(100 + r);
      for (int id = 0; id < vocab; id += 3) counts.host.data<uint32_t>()[r * vocab + id] = id % 2 == 0 ? kTokenInPrompt : 2;
      for (int word = 0; word < mask.host.dim(1); ++word) {
        mask.host.data<uint32_t>()[r * mask.host.dim(1) + word] = edits ? 0xfffffff7u : ~0u;
      }
      if (edits) {
        edit_token.insert(edit_token.end(), {r, r + 1, r});
        edit_value.insert(edit_value.end(), {3.5f, -kInfinity, 0.25f});
      }
      edit_start.push_back(static_cast<int32_t>(edit_token.size()));
    }
    if (edit_token.empty()) {
      edit_token = {0};
      edit_value = {0};
    }
    for (Twin* twin : {&logits, &slots, &counts, &mask}) Upload(*twin);
    Twin& values = Make(DType::kF32, DType::kF32, {static_cast<int64_t>(edit_value.size())});
    std::memcpy(values.host_memory.data(), edit_value.data(), edit_value.size() * 4);
    Upload(values);
    Twin &token = Ints(std::vector<int32_t>(rows, -7)), &logprob = Make(DType::kF32, DType::kF32, {rows});
    Twin& top_token = Make(DType::kI32, DType::kI32, {rows, kMaxLogprobs});
    Twin& top_logprob = Make(DType::kF32, DType::kF32, {rows, kMaxLogprobs});
    const Twin &slot_twin = Ints(slot), &position_twin = Ints(position), &start = Ints(edit_start), &tokens = Ints(edit_token);
    const auto run = [&](Ops& ops, auto side) {
      ops.Sample({.logits = side(logits),
                  .slot = side(slot_twin),
                  .position = side(position_twin),
                  .params = side(slots),
                  .counts = side(counts),
                  .edit_start = side(start),
                  .edit_token = side(tokens),
                  .edit_value = side(values),
                  .bitmask = side(mask),
                  .tokenizer_size = vocab - 5,
                  .token = side(token),
                  .logprob = side(logprob),
                  .top_token = side(top_token),
                  .top_logprob = side(top_logprob)});
    };
    run(*cpu_, [](const Twin& twin) { return twin.host; });
    run(*cuda_, [](const Twin& twin) { return twin.device; });
    EXPECT_TRUE(cuda_->Sync().ok());
    const auto ints = [&](const Tensor& tensor) {
      std::vector<int32_t> values(tensor.elements());
      Copy(values.data(), tensor.raw(), values.size() * 4);
      return values;
    };
    const auto floats = [&](const Tensor& tensor) {
      std::vector<float> values(tensor.elements());
      Copy(values.data(), tensor.raw(), values.size() * 4);
      return values;
    };
    const auto result = [&](auto side) {
      return Result{ints(side(token)), ints(side(top_token)), floats(side(logprob)), floats(side(top_logprob))};
    };
    return {result([](const Twin& twin) { return twin.host; }), result([](const Twin& twin) { return twin.device; })};
  }

  std::vector<float> Normals(int count, float scale) {
    std::vector<float> values(count);
    for (float& value : values) value = normal_(random_) * scale;
    return values;
  }
};

TEST_P(CudaSampleTest, GreedyPenaltiesEditsAndLogprobsMatchTheCpu) {
  const SlotSampling params{
      .temperature = 0, .repetition_penalty = 1.3f, .presence_penalty = 0.4f, .frequency_penalty = 0.2f, .logprobs = 7};
  for (const int vocab : {37, 1000, 49152}) {
    const auto [cpu, cuda] = Sample(
        6, vocab, params, [&](int) { return Normals(vocab, 2); }, /*edits=*/true);
    EXPECT_EQ(cpu.token, cuda.token);
    EXPECT_EQ(cpu.top_token, cuda.top_token);
    for (size_t i = 0; i < cpu.logprob.size(); ++i) EXPECT_NEAR(cpu.logprob[i], cuda.logprob[i], 1e-4);
    for (size_t i = 0; i < cpu.top_logprob.size(); ++i) {
      if (cpu.top_token[i] >= 0) {
        EXPECT_NEAR(cpu.top_logprob[i], cuda.top_logprob[i], 1e-4);
      }
    }
  }
}

TEST_P(CudaSampleTest, TiesGoToTheLowestIdAndNanFailsItsRowAlone) {
  const auto [cpu, cuda] = Sample(3, 200, {.temperature = 0}, [&](int r) {
    std::vector<float> logits(200, 1.0f);
    if (r == 1) logits[150] = std::nanf("");
    if (r == 2) logits[20] = logits[90] = 5;
    return logits;
  });
  EXPECT_EQ(cpu.token, cuda.token);
  EXPECT_EQ(cuda.token, (std::vector<int32_t>{0, -1, 20}));
}

// The CPU's exponential differs by a rounding: rarely a number lies so close between two tokens.
TEST_P(CudaSampleTest, DrawsAreTheCpus) {
  const SlotSampling cases[] = {{.seed = 5},
                                {.temperature = 0.7f, .top_k = 8, .seed = 6},
                                {.top_p = 0.8f, .seed = 7},
                                {.temperature = 1.5f, .min_p = 0.2f, .seed = 8},
                                {.top_p = 0.7f, .top_k = 10, .seed = 9},
                                {.top_p = 0.9f, .repetition_penalty = 1.2f, .frequency_penalty = 0.3f, .seed = 10}};
  for (const int vocab : {64, 5001, 49152}) {
    const int rows = vocab > 10000 ? 20 : 300;
    for (const SlotSampling& params : cases) {
      const auto [cpu, cuda] = Sample(rows, vocab, params, [&](int) { return Normals(vocab, 1.5f); });
      int same = 0;
      for (int r = 0; r < rows; ++r) same += cpu.token[r] == cuda.token[r];
      EXPECT_GE(same, rows - 1) << vocab << " tokens, seed " << params.seed;
    }
  }
}

// Thousands of tokens that are equal, or almost.
TEST_P(CudaSampleTest, DrawsFromCrowdsAreTheCpus) {
  const SlotSampling cases[] = {{.top_k = 700, .seed = 5},
                                {.top_p = 0.3f, .seed = 6},
                                {.temperature = 0.5f, .top_p = 0.9f, .top_k = 4000, .seed = 7},
                                {.top_p = 0.5f, .min_p = 0.9f, .seed = 8}};
  const int vocab = 9000, rows = 40;
  for (const float spread : {0.f, 1e-4f}) {
    for (const SlotSampling& params : cases) {
      const auto [cpu, cuda] = Sample(rows, vocab, params, [&](int) { return Normals(vocab, spread); });
      int same = 0;
      for (int r = 0; r < rows; ++r) same += cpu.token[r] == cuda.token[r];
      EXPECT_GE(same, rows - 3) << "spread " << spread << ", seed " << params.seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaOpsTest, kDeviceTypes, DeviceTypeName);
INSTANTIATE_TEST_SUITE_P(Types, CudaAttentionTest, kDeviceTypes, DeviceTypeName);
INSTANTIATE_TEST_SUITE_P(Types, CudaSampleTest, kDeviceTypes, DeviceTypeName);

TEST(CudaDeviceTest, ADeviceThatDoesNotExistIsNamed) {
  const auto made = MakeCudaOps({.device = 99, .max_tokens = 1, .max_hidden = 8, .max_product = 8});
  EXPECT_TRUE(absl::IsFailedPrecondition(made.status())) << made.status();
}

}  // namespace
}  // namespace berth::kernels
