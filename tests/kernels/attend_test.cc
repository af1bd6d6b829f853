#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/half.h"
#include "tests/kernels/support.h"

namespace berth::kernels {
namespace {

struct AttendCase {
  const char* name;
  int q_heads = 2, kv_heads = 1, dim = 16;
  std::vector<int> contexts = {5};  // per sequence, this step's rows included
  std::vector<int> queries = {5};   // rows of this step per sequence
  DType kv = DType::kF32;
  int window = 0;
  float softcap = 0;
  bool alibi = false;
};

std::ostream& operator<<(std::ostream& out, const AttendCase& c) { return out << c.name; }

// Random queries, keys and values of some sequences. Blocks are dealt out in a scrambled order; whatever no token owns is NaN.
class Problem {
 public:
  explicit Problem(const AttendCase& c) : c_(c), random_(static_cast<uint32_t>(c.dim * 131 + c.contexts[0])) {
    const int sequences = static_cast<int>(c.contexts.size());
    for (int context : c.contexts) max_blocks_ = std::max(max_blocks_, (context + kKvBlockTokens - 1) / kKvBlockTokens);
    const int blocks = sequences * max_blocks_ + 1;
    const int64_t element = Info(c.kv).block_bytes, head_stride = 2 * kKvBlockTokens * c.dim * element;
    memory_.assign(blocks * c.kv_heads * head_stride, std::byte{0xFF});  // NaN in f32, f16 and bf16
    layer_ = {.base = memory_.data(),
              .dtype = c.kv,
              .kv_heads = c.kv_heads,
              .key_dim = c.dim,
              .value_dim = c.dim,
              .block_stride = c.kv_heads * head_stride,
              .head_stride = head_stride};
    table_.assign(sequences * max_blocks_, -1);
    for (int i = 0; i < sequences * max_blocks_; ++i) table_[i] = blocks - 1 - i;
    keys_.resize(sequences);
    values_.resize(sequences);
    queries_.resize(sequences);
    for (int s = 0; s < sequences; ++s) {
      for (int t = 0; t < c.contexts[s]; ++t) WriteToken(s, t);
      queries_[s] = random_.Normals(static_cast<int64_t>(c.contexts[s]) * c.q_heads * c.dim);
    }
    if (c.alibi) slopes_ = random_.Normals(c.q_heads, 0.1f);
  }

  // Rows [first[s], first[s] + count[s]) of each sequence in one call.
  std::vector<float> Attend(Ops& ops, const std::vector<int>& first, const std::vector<int>& count) {
    std::vector<int32_t> position, sequence, start = {0}, context;
    std::vector<float> q;
    const int row_size = c_.q_heads * c_.dim;
    for (size_t s = 0; s < first.size(); ++s) {
      for (int i = 0; i < count[s]; ++i) {
        position.push_back(first[s] + i);
        sequence.push_back(static_cast<int>(s));
        const float* from = queries_[s].data() + static_cast<int64_t>(first[s] + i) * row_size;
        q.insert(q.end(), from, from + row_size);
      }
      start.push_back(static_cast<int>(position.size()));
      context.push_back(first[s] + count[s]);
    }
    const int tokens = static_cast<int>(position.size()), sequences = static_cast<int>(first.size());
    const Batch batch{.tokens = tokens,
                      .sequences = sequences,
                      .position = Ints(position),
                      .sequence_of = Ints(sequence),
                      .query_start = Ints(start),
                      .context_length = Ints(context),
                      .block_table = Tensor(table_.data(), DType::kI32, {sequences, max_blocks_})};
    GuardedRows in(tokens, row_size, 7, q), out(tokens, row_size, 5);
    ops.Attend({.q = in.heads(c_.q_heads),
                .batch = batch,
                .kv = layer_,
                .scale = 1 / std::sqrt(static_cast<float>(c_.dim)),
                .window = c_.window,
                .softcap = c_.softcap,
                .alibi_slope = slopes_.empty() ? Tensor() : Floats(slopes_),
                .out = out.heads(c_.q_heads)});
    out.ExpectGuardsIntact();
    return out.values();
  }

  // The same in double, written as the textbook has it.
  std::vector<double> Reference(const std::vector<int>& first, const std::vector<int>& count) const {
    std::vector<double> out;
    for (size_t s = 0; s < first.size(); ++s) {
      for (int p = first[s]; p < first[s] + count[s]; ++p) {
        for (int h = 0; h < c_.q_heads; ++h) {
          const std::vector<double> row = ReferenceRow(static_cast<int>(s), p, h);
          out.insert(out.end(), row.begin(), row.end());
        }
      }
    }
    return out;
  }

 private:
  void WriteToken(int s, int t) {
    for (int h = 0; h < c_.kv_heads; ++h) {
      const int64_t block = table_[s * max_blocks_ + t / kKvBlockTokens];
      const int64_t offset = static_cast<int64_t>(t % kKvBlockTokens) * c_.dim;
      for (int i = 0; i < c_.dim; ++i) {
        keys_[s].push_back(Store(layer_.Keys(block, h), offset + i));
        values_[s].push_back(Store(layer_.Values(block, h), offset + i));
      }
    }
  }

  double Store(std::byte* base, int64_t at) {
    const float value = random_.Normal();
    if (c_.kv == DType::kF32) {
      std::memcpy(base + 4 * at, &value, 4);
      return value;
    }
    const uint16_t narrow = c_.kv == DType::kF16 ? cpu::ToHalf(value) : cpu::ToBf16(value);
    std::memcpy(base + 2 * at, &narrow, 2);
    return c_.kv == DType::kF16 ? cpu::FromHalf(narrow) : cpu::FromBf16(narrow);
  }

  std::vector<double> ReferenceRow(int s, int p, int h) const {
    const int kv_head = h / (c_.q_heads / c_.kv_heads);
    const auto at = [&](int t, int i) { return (static_cast<int64_t>(t) * c_.kv_heads + kv_head) * c_.dim + i; };
    const int begin = c_.window > 0 ? std::max(0, p - c_.window + 1) : 0;
    std::vector<double> weights;
    double total = 0;
    for (int t = begin; t <= p; ++t) {
      double score = 0;
      for (int i = 0; i < c_.dim; ++i) score += queries_[s][(p * c_.q_heads + h) * c_.dim + i] * keys_[s][at(t, i)];
      score /= std::sqrt(static_cast<double>(c_.dim));
      if (c_.softcap > 0) score = c_.softcap * std::tanh(score / c_.softcap);
      if (!slopes_.empty()) score += slopes_[h] * static_cast<double>(t - p);
      weights.push_back(std::exp(score));
      total += weights.back();
    }
    std::vector<double> out(c_.dim);
    for (int t = begin; t <= p; ++t) {
      for (int i = 0; i < c_.dim; ++i) out[i] += weights[t - begin] / total * values_[s][at(t, i)];
    }
    return out;
  }

  const AttendCase c_;
  Random random_;
  int max_blocks_ = 0;
  std::vector<std::byte> memory_;
  KvLayer layer_;
  std::vector<int32_t> table_;
  std::vector<std::vector<double>> keys_, values_;  // per sequence [tokens, kv_heads, dim]
  std::vector<std::vector<float>> queries_;         // per sequence [tokens, q_heads, dim]
  std::vector<float> slopes_;
};

std::vector<int> Difference(const std::vector<int>& a, const std::vector<int>& b) {
  std::vector<int> out;
  for (size_t i = 0; i < a.size(); ++i) out.push_back(a[i] - b[i]);
  return out;
}

class AttendTest : public testing::TestWithParam<AttendCase> {};

TEST_P(AttendTest, MatchesDouble) {
  const AttendCase& c = GetParam();
  Problem problem(c);
  for (int threads : {1, 3}) {
    const auto ops = MakeCpuOps({.threads = threads});
    const std::vector<int> first = Difference(c.contexts, c.queries);
    ExpectClose(problem.Attend(*ops, first, c.queries), problem.Reference(first, c.queries), 1e-5);
  }
}

// Whole prompt, chunks of any size, single rows: the same bits.
TEST_P(AttendTest, ChunksDoNotChangeARow) {
  const AttendCase& c = GetParam();
  const auto ops = MakeCpuOps({.threads = 1});
  Problem problem(c);
  const std::vector<int> none(c.contexts.size(), 0);
  for (size_t s = 0; s < c.contexts.size(); ++s) {
    std::vector<int> all = none;
    all[s] = c.contexts[s];
    const std::vector<float> whole = problem.Attend(*ops, none, all);
    for (int chunk : {1, 13, 64}) {
      SCOPED_TRACE(testing::Message() << "chunks of " << chunk);
      std::vector<float> joined;
      for (int begin = 0; begin < c.contexts[s]; begin += chunk) {
        std::vector<int> first = none, count = none;
        first[s] = begin;
        count[s] = std::min(chunk, c.contexts[s] - begin);
        const std::vector<float> part = problem.Attend(*ops, first, count);
        joined.insert(joined.end(), part.begin(), part.end());
      }
      ExpectSameBits(joined, whole);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, AttendTest,
    testing::Values(
        AttendCase{.name = "one_token", .contexts = {1}, .queries = {1}},
        AttendCase{.name = "prompt", .q_heads = 6, .kv_heads = 2, .dim = 64, .contexts = {130}, .queries = {130}},
        AttendCase{
            .name = "mixed", .q_heads = 9, .kv_heads = 3, .dim = 64, .contexts = {64, 65, 200, 3}, .queries = {1, 1, 70, 3}},
        AttendCase{.name = "empty_sequence", .contexts = {70, 9, 20}, .queries = {1, 0, 20}},
        AttendCase{.name = "no_rows", .contexts = {9}, .queries = {0}},
        AttendCase{.name = "odd_dim", .q_heads = 5, .kv_heads = 5, .dim = 20, .contexts = {75}, .queries = {40}},
        AttendCase{.name = "wide_dim", .q_heads = 4, .kv_heads = 1, .dim = 128, .contexts = {90}, .queries = {30}},
        AttendCase{
            .name = "f16", .q_heads = 4, .kv_heads = 2, .dim = 32, .contexts = {100}, .queries = {50}, .kv = DType::kF16},
        AttendCase{
            .name = "bf16", .q_heads = 4, .kv_heads = 2, .dim = 32, .contexts = {100}, .queries = {50}, .kv = DType::kBF16},
        AttendCase{.name = "window_in_block", .contexts = {150}, .queries = {90}, .window = 10},
        AttendCase{.name = "window_over_blocks", .q_heads = 3, .contexts = {300}, .queries = {200}, .window = 100},
        AttendCase{.name = "window_of_one", .contexts = {70}, .queries = {8}, .window = 1},
        AttendCase{.name = "softcap", .contexts = {80}, .queries = {80}, .softcap = 2},
        AttendCase{.name = "alibi", .q_heads = 8, .kv_heads = 2, .contexts = {140}, .queries = {80}, .alibi = true},
        AttendCase{.name = "many_heads", .q_heads = 400, .kv_heads = 1, .contexts = {5}, .queries = {5}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace berth::kernels
