#include <algorithm>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/attend_task.h"
#include "kernels/cpu/stages.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attend.cc"
// foreach_target.h must come first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

#include "kernels/cpu/dequantize.inc"

HWY_BEFORE_NAMESPACE();
namespace berth::kernels::cpu::HWY_NAMESPACE {

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int kVectorLanes = hn::MaxLanes(D());
// A micro tile multiplies kRows rows with kColumns columns, held in registers.
constexpr int kVectors = 4;
constexpr int kColumns = kVectors * kVectorLanes;
constexpr int kRows = kVectorLanes == 16 ? kMicroTileRows : 2;

// scores[r][t] = Σ_d q[r][d] keys[d][t], d in rising order.
template <int kR>
HWY_INLINE void Scores(const float* const* q, const float* keys, int64_t key_dim, float* scores) {
  const D d;
  for (int column = 0; column < kKvBlockTokens; column += kColumns) {
    V acc[kR][kVectors];
    for (auto& row : acc) {
      for (V& v : row) v = hn::Zero(d);
    }
    for (int64_t i = 0; i < key_dim; ++i) {
      const float* key = keys + i * kKvBlockTokens + column;
      V k[kVectors];
      for (int v = 0; v < kVectors; ++v) k[v] = hn::LoadU(d, key + v * kVectorLanes);
      for (int r = 0; r < kR; ++r) {
        const V x = hn::Set(d, q[r][i]);
        for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(x, k[v], acc[r][v]);
      }
    }
    for (int r = 0; r < kR; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        hn::StoreU(acc[r][v], d, scores + r * kKvBlockTokens + column + v * kVectorLanes);
      }
    }
  }
}

// sum[r][i] += Σ_t p[r][t] values[t][i] for t in [begin, end), in rising order.
template <int kR>
HWY_INLINE void AddValues(const float* p, const float* values, int64_t dim, int begin, int end, float* sum) {
  const D d;
  const auto add = [&](int64_t i, auto vectors) HWY_ATTR {
    constexpr int kV = decltype(vectors)::value;
    V acc[kR][kV];
    for (int r = 0; r < kR; ++r) {
      for (int v = 0; v < kV; ++v) acc[r][v] = hn::LoadU(d, sum + r * dim + i + v * kVectorLanes);
    }
    for (int t = begin; t < end; ++t) {
      V value[kV];
      for (int v = 0; v < kV; ++v) value[v] = hn::LoadU(d, values + t * dim + i + v * kVectorLanes);
      for (int r = 0; r < kR; ++r) {
        const V x = hn::Set(d, p[r * kKvBlockTokens + t]);
        for (int v = 0; v < kV; ++v) acc[r][v] = hn::MulAdd(x, value[v], acc[r][v]);
      }
    }
    for (int r = 0; r < kR; ++r) {
      for (int v = 0; v < kV; ++v) hn::StoreU(acc[r][v], d, sum + r * dim + i + v * kVectorLanes);
    }
  };
  int64_t i = 0;
  for (; i + kColumns <= dim; i += kColumns) add(i, std::integral_constant<int, kVectors>());
  for (; i < dim; i += kVectorLanes) add(i, std::integral_constant<int, 1>());
}

#if HWY_TARGET != HWY_SCALAR
// A vector of groups of four numbers, `stride` apart.
template <class DF>
HWY_INLINE hn::Vec<DF> LoadGroups(DF d, const float* from, int64_t stride) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<DF> half;
    return hn::Combine(d, LoadGroups(half, from + hn::MaxLanes(half) / 4 * stride, stride), LoadGroups(half, from, stride));
  }
}
#endif

// keys[i][j] = lines[j][i] for j < kVectorLanes, where a row of `keys` has the 64 tokens of a block.
HWY_INLINE void Transpose(const float* lines, int64_t dim, float* keys) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const D d;
  const hn::Repartition<double, D> pairs;
  for (; i + 4 <= dim; i += 4) {
    // Each group of four lanes is a 4 x 4 transpose of its own.
    const auto load = [&](int line) HWY_ATTR { return LoadGroups(d, lines + line * dim + i, 4 * dim); };
    const V a = load(0), b = load(1), c = load(2), e = load(3);
    const auto ab0 = hn::BitCast(pairs, hn::InterleaveLower(d, a, b)), ab2 = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
    const auto ce0 = hn::BitCast(pairs, hn::InterleaveLower(d, c, e)), ce2 = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
    float* const row = keys + i * kKvBlockTokens;
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab0, ce0)), d, row);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab0, ce0)), d, row + kKvBlockTokens);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab2, ce2)), d, row + 2 * kKvBlockTokens);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab2, ce2)), d, row + 3 * kKvBlockTokens);
  }
#endif
  for (; i < dim; ++i) {
    for (int j = 0; j < kVectorLanes; ++j) keys[i * kKvBlockTokens + j] = lines[j * dim + i];
  }
}

// Calls function(std::integral_constant<int, n>) for n in [1, kRows].
template <typename Function>
HWY_INLINE void WithConstant(int n, const Function& function) {
  switch (n) {
    case 1:
      return function(std::integral_constant<int, 1>());
    case 2:
      return function(std::integral_constant<int, 2>());
    case 3:
      return function(std::integral_constant<int, std::min(3, kRows)>());
    case 4:
      return function(std::integral_constant<int, std::min(4, kRows)>());
    case 5:
      return function(std::integral_constant<int, std::min(5, kRows)>());
    case 6:
      return function(std::integral_constant<int, std::min(6, kRows)>());
  }
}

class Walker {
 public:
  HWY_ATTR Walker(const AttendArgs& args, const AttendTask& task, float* memory)
      : args_(args),
        task_(task),
        group_(static_cast<int>(args.q.dim(1)) / args.kv.kv_heads),
        rows_(task.tokens * group_),
        key_dim_(args.kv.key_dim),
        value_dim_(args.kv.value_dim),
        padded_dim_(PaddedDim(value_dim_)),
        scratch_(memory, key_dim_, value_dim_, rows_) {}

  HWY_ATTR void Run() {
    std::fill_n(scratch_.sum, rows_ * padded_dim_, 0.f);
    std::fill_n(scratch_.highest, rows_, -std::numeric_limits<float>::infinity());
    std::fill_n(scratch_.weight, rows_, 0.f);
    const int last = Position(rows_ - 1);
    const int first = args_.window > 0 ? std::max(0, Position(0) - args_.window + 1) : 0;
    for (int block = first / kKvBlockTokens; block <= last / kKvBlockTokens; ++block) {
      LoadBlock(block, std::min(kKvBlockTokens, last - block * kKvBlockTokens + 1));
      for (int row = 0; row < rows_; row += kRows) {
        WithConstant(std::min(kRows, rows_ - row), [&](auto count) HWY_ATTR { Step<decltype(count)::value>(block, row); });
      }
    }
    for (int row = 0; row < rows_; ++row) Finish(row);
  }

 private:
  HWY_ATTR int Position(int row) const { return args_.batch.position.data<int32_t>()[task_.first_token + row / group_]; }
  HWY_ATTR int Head(int row) const { return task_.kv_head * group_ + row % group_; }

  // The first `tokens` keys (transposed) and values of a block, as f32. What lies behind them may be loaded but is never used.
  HWY_ATTR void LoadBlock(int block, int tokens) {
    const Tensor& table = args_.batch.block_table;
    BERTH_CHECK(block < table.dim(1)) << "block " << block << " of " << table.DebugString();
    const int64_t id = table.data<int32_t>()[task_.sequence * table.stride(0) + block];
    const std::byte *keys = args_.kv.Keys(id, task_.kv_head), *values = args_.kv.Values(id, task_.kv_head);
    const DType dtype = args_.kv.dtype;
    const int64_t value_stride = args_.kv.value_stride();
    const size_t key_bytes = RowBytes(dtype, key_dim_), value_bytes = RowBytes(dtype, value_stride);
    for (int t = 0; t < tokens; t += kVectorLanes) {
      const float* lines = reinterpret_cast<const float*>(keys + t * key_bytes);
      if (dtype != DType::kF32) {
        Dequantize(dtype, keys + t * key_bytes, scratch_.lines, kVectorLanes * key_dim_);
        lines = scratch_.lines;
      }
      Transpose(lines, key_dim_, scratch_.keys + t);
    }
    values_ = reinterpret_cast<const float*>(values);
    if (dtype == DType::kF32 && value_stride == padded_dim_) return;
    values_ = scratch_.values;
    for (int t = 0; t < tokens; ++t) {
      float* value = scratch_.values + t * padded_dim_;
      Dequantize(dtype, values + t * value_bytes, value, value_dim_);
      std::fill(value + value_dim_, value + padded_dim_, 0.f);
    }
  }

  // One block of the online softmax for kR rows. A row that sees nothing of the block keeps its state untouched, so that its
  // result does not depend on the rows it shares a task with.
  template <int kR>
  HWY_ATTR void Step(int block, int row) {
    const float* q[kR];
    for (int r = 0; r < kR; ++r) {
      const int64_t token = task_.first_token + (row + r) / group_;
      q[r] = args_.q.data<float>() + token * args_.q.stride(0) + Head(row + r) * args_.q.stride(1);
    }
    Scores<kR>(q, scratch_.keys, key_dim_, scratch_.scores);
    int begin[kR], end[kR], common_begin = 0, common_end = kKvBlockTokens;
    for (int r = 0; r < kR; ++r) {
      const int offset = Position(row + r) - block * kKvBlockTokens;
      end[r] = std::clamp(offset + 1, 0, kKvBlockTokens);
      begin[r] = args_.window > 0 ? std::clamp(offset - args_.window + 1, 0, end[r]) : 0;
      if (begin[r] < end[r]) Softmax(row + r, offset, begin[r], end[r], scratch_.scores + r * kKvBlockTokens);
      common_begin = std::max(common_begin, begin[r]);
      common_end = std::min(common_end, end[r]);
    }
    float* sum = scratch_.sum + row * padded_dim_;
    if (common_begin >= common_end) common_begin = common_end = kKvBlockTokens;
    for (int r = 0; r < kR; ++r) AddOne(r, begin[r], std::min(common_begin, end[r]), sum);
    AddValues<kR>(scratch_.scores, values_, padded_dim_, common_begin, common_end, sum);
    for (int r = 0; r < kR; ++r) AddOne(r, common_end, end[r], sum);
  }

  HWY_ATTR void AddOne(int r, int begin, int end, float* sum) {
    if (begin >= end) return;
    AddValues<1>(scratch_.scores + r * kKvBlockTokens, values_, padded_dim_, begin, end, sum + r * padded_dim_);
  }

  // Turns one row's scores into weights exp(score - highest) and rescales the row's state to the new highest score. `offset` is
  // the row's position less the block's first.
  HWY_ATTR void Softmax(int row, int offset, int begin, int end, float* scores) {
    const D d;
    const V lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
    const float slope = args_.alibi_slope.empty() ? 0.f : args_.alibi_slope.data<float>()[Head(row)];
    const V vbegin = hn::Set(d, static_cast<float>(begin)), vend = hn::Set(d, static_cast<float>(end));
    V highest = lowest;
    for (int t = 0; t < kKvBlockTokens; t += kVectorLanes) {
      const V at = hn::Iota(d, static_cast<float>(t));
      V score = hn::Mul(hn::LoadU(d, scores + t), hn::Set(d, args_.scale));
      if (args_.softcap > 0) {
        const V cap = hn::Set(d, args_.softcap);
        score = hn::Mul(cap, hn::Tanh(d, hn::Div(score, cap)));
      }
      if (slope != 0) score = hn::MulAdd(hn::Set(d, slope), hn::Sub(at, hn::Set(d, static_cast<float>(offset))), score);
      score = hn::IfThenElse(hn::And(hn::Ge(at, vbegin), hn::Lt(at, vend)), score, lowest);
      hn::StoreU(score, d, scores + t);
      highest = hn::Max(highest, score);
    }
    const float before = scratch_.highest[row], after = std::max(before, hn::GetLane(hn::MaxOfLanes(d, highest)));
    V weight = hn::Zero(d);
    for (int t = 0; t < kKvBlockTokens; t += kVectorLanes) {
      const V x = hn::Sub(hn::LoadU(d, scores + t), hn::Set(d, after));
      const V p = hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, x));  // Exp maps NaN to 0
      hn::StoreU(p, d, scores + t);
      weight = hn::Add(weight, p);
    }
    const float keep = hn::GetLane(hn::Exp(d, hn::Set(d, before - after)));
    scratch_.highest[row] = after;
    scratch_.weight[row] = scratch_.weight[row] * keep + hn::GetLane(hn::SumOfLanes(d, weight));
    float* sum = scratch_.sum + row * padded_dim_;
    for (int64_t i = 0; i < padded_dim_; i += kVectorLanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, sum + i), hn::Set(d, keep)), d, sum + i);
    }
  }

  HWY_ATTR void Finish(int row) {
    const int64_t token = task_.first_token + row / group_;
    float* out = args_.out.data<float>() + token * args_.out.stride(0) + Head(row) * args_.out.stride(1);
    const float* sum = scratch_.sum + row * padded_dim_;
    const float scale = 1 / scratch_.weight[row];
    for (int64_t i = 0; i < value_dim_; ++i) out[i] = sum[i] * scale;
  }

  const AttendArgs& args_;
  const AttendTask& task_;
  const int group_;
  const int rows_;
  const int64_t key_dim_;
  const int64_t value_dim_;
  const int64_t padded_dim_;
  const AttendScratch scratch_;
  const float* values_ = nullptr;  // of the block at hand, [64, padded value_dim]
};

void RunAttend(const AttendArgs& args, const AttendTask& task, float* memory) { Walker(args, task, memory).Run(); }

}  // namespace berth::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace berth::kernels::cpu {
HWY_EXPORT(RunAttend);

void Attend(Context& context, const AttendArgs& args) {
  const int group = static_cast<int>(args.q.dim(1)) / args.kv.kv_heads;
  const int64_t tokens_per_task = std::max(1, kTaskRows / group);
  std::vector<AttendTask> tasks;
  for (int s = 0; s < args.batch.sequences; ++s) {
    const int64_t begin = args.batch.query_start.data<int32_t>()[s], end = args.batch.query_start.data<int32_t>()[s + 1];
    for (int64_t token = begin; token < end; token += tokens_per_task) {
      for (int head = 0; head < args.kv.kv_heads; ++head) {
        tasks.push_back({s, head, token, static_cast<int>(std::min(tokens_per_task, end - token))});
      }
    }
  }
  const size_t size = AttendScratch::Size(args.kv.key_dim, args.kv.value_dim, tokens_per_task * group);
  const auto run = HWY_DYNAMIC_DISPATCH(RunAttend);
  context.pool.Run(static_cast<int>(tasks.size()),
                   [&](int task, int thread) { run(args, tasks[task], context.thread[thread].Get(size)); });
}

}  // namespace berth::kernels::cpu
#endif
