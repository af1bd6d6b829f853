#include "kernels/cpu/linear.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <vector>

#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cc"
// foreach_target.h must come first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/dequantize.inc"

// What a task needs, outside the per-target namespaces.
#ifndef BERTH_KERNELS_CPU_LINEAR_PANEL_
#define BERTH_KERNELS_CPU_LINEAR_PANEL_
namespace berth::kernels::cpu {

inline constexpr int kLanes = 16;
inline constexpr int kPanelRows = 48;  // what one task takes
inline constexpr int kMaxStripRows = 12;

// Some rows of one segment of a weight, and everything they are multiplied with.
struct Panel {
  const float* x;  // [x_rows, padded_k] by x_stride
  int64_t x_rows, x_stride;
  int64_t k, padded_k;  // padded_k is a multiple of kLanes
  DType dtype;
  const std::byte* weight;  // of the first row
  int rows;
  const float* bias;  // of the first row, or null
  float* out;         // [x_rows, rows] by out_stride
  int64_t out_stride;
};

}  // namespace berth::kernels::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace berth::kernels::cpu::HWY_NAMESPACE {

using D = hn::CappedTag<float, kLanes>;
using V = hn::Vec<D>;
constexpr int kVectorLanes = hn::MaxLanes(D());
constexpr int kParts = kLanes / kVectorLanes;  // vectors that hold the 16 lanes
constexpr int kMaxMr = kParts == 1 ? 6 : 4;

// What stays in the first-level cache: a block of kStripRows rows and about kBlockK columns of the weight as f32.
constexpr int kStripRows = kParts == 1 ? 8 : 12;
constexpr int64_t kBlockK = kParts == 1 ? 1024 : 576;
constexpr int kBlockMr = 4 * kMaxMr;  // rows of x that it is multiplied with before the next

// The tile's width for `mr` rows of x: as many accumulators as the registers hold.
constexpr int TileWidth(int mr) { return kParts == 1 ? (mr <= 3 ? 8 : 4) : (mr == 1 ? 4 : 12 / mr); }
// How many of the parts a pass over the columns takes.
constexpr int PassParts(int mr) { return kParts == 2 && mr == 1 ? 2 : 1; }

// Rows [first, first + rows) of a panel; `block` has columns [k, k + count) of them as f32, by block_stride.
struct Strip {
  int first, rows;
  const float* block;
  int64_t block_stride, k, count;
  bool begins, ends;  // k is 0; k + count is all
};

// Four sums of 16 lanes each, in the order that linear.h names.
HWY_INLINE void ReduceFour(const float* lanes, float* sums) {
  HWY_ALIGN float group[kLanes];  // of each sum, four lanes: [lane / 4][sum]
#if HWY_TARGET == HWY_SCALAR
  const auto at = [&](int sum, int lane) { return lanes[sum * kLanes + lane]; };
  for (int lane = 0; lane < kLanes; ++lane) {
    const int sum = lane % 4, first = lane / 4 * 4;
    group[lane] = (at(sum, first) + at(sum, first + 2)) + (at(sum, first + 1) + at(sum, first + 3));
  }
  for (int i = 0; i < 4; ++i) sums[i] = (group[i] + group[8 + i]) + (group[4 + i] + group[12 + i]);
#else
  const D d;
  const hn::Repartition<double, D> pairs;
  for (int p = 0; p < kParts; ++p) {
    V sum[4];
    for (int i = 0; i < 4; ++i) sum[i] = hn::Load(d, lanes + i * kLanes + p * kVectorLanes);
    const V a = hn::Add(hn::InterleaveLower(d, sum[0], sum[1]), hn::InterleaveUpper(d, sum[0], sum[1]));
    const V b = hn::Add(hn::InterleaveLower(d, sum[2], sum[3]), hn::InterleaveUpper(d, sum[2], sum[3]));
    const auto a2 = hn::BitCast(pairs, a), b2 = hn::BitCast(pairs, b);
    const V lower = hn::BitCast(d, hn::InterleaveLower(pairs, a2, b2)),
            upper = hn::BitCast(d, hn::InterleaveUpper(pairs, a2, b2));
    hn::Store(hn::Add(lower, upper), d, group + p * kVectorLanes);
  }
  const hn::FixedTag<float, 4> four;
  const auto even = hn::Add(hn::Load(four, group), hn::Load(four, group + 8));
  const auto odd = hn::Add(hn::Load(four, group + 4), hn::Load(four, group + 12));
  hn::StoreU(hn::Add(even, odd), four, sums);
#endif
}

// kMr rows of x from row m on times up to TileWidth(kMr) rows of the strip from row n on. `lanes` holds the running sums, a
// tile after the other, [sum][lane]. The strip rows of a narrower tile repeat the last one.
template <int kMr>
HWY_INLINE void Tile(const Panel& panel, const Strip& strip, int64_t m, int n, float* lanes) {
  constexpr int kNr = TileWidth(kMr);
  constexpr int kSums = kMr * kNr;
  static_assert(kSums % 4 == 0 && kStripRows % kNr == 0);
  const D d;
  const float* x = panel.x + m * panel.x_stride + strip.k;
  const float* w[kNr];
  for (int j = 0; j < kNr; ++j) w[j] = strip.block + std::min(n + j, strip.rows - 1) * strip.block_stride;
  constexpr int kPass = PassParts(kMr);
  for (int first = 0; first < kParts; first += kPass) {
    V sum[kPass][kSums];
    for (int p = 0; p < kPass; ++p) {
      for (int i = 0; i < kSums; ++i) {
        sum[p][i] = strip.begins ? hn::Zero(d) : hn::Load(d, lanes + i * kLanes + (first + p) * kVectorLanes);
      }
    }
    for (int64_t k = first * kVectorLanes; k < strip.count; k += kLanes) {
      for (int p = 0; p < kPass; ++p) {
        const int64_t at = k + p * kVectorLanes;
        V xv[kMr];
        for (int i = 0; i < kMr; ++i) xv[i] = hn::LoadU(d, x + i * panel.x_stride + at);
        for (int j = 0; j < kNr; ++j) {
          const V wv = hn::LoadU(d, w[j] + at);
          for (int i = 0; i < kMr; ++i) sum[p][i * kNr + j] = hn::MulAdd(xv[i], wv, sum[p][i * kNr + j]);
        }
      }
    }
    for (int p = 0; p < kPass; ++p) {
      for (int i = 0; i < kSums; ++i) hn::Store(sum[p][i], d, lanes + i * kLanes + (first + p) * kVectorLanes);
    }
  }
  if (!strip.ends) return;
  float sums[kSums];
  for (int i = 0; i < kSums; i += 4) ReduceFour(lanes + i * kLanes, sums + i);
  const int width = std::min(kNr, strip.rows - n), column = strip.first + n;
  for (int i = 0; i < kMr; ++i) {
    float* out = panel.out + (m + i) * panel.out_stride + column;
    for (int j = 0; j < width; ++j) {
      out[j] = panel.bias == nullptr ? sums[i * kNr + j] : sums[i * kNr + j] + panel.bias[column + j];
    }
  }
}

template <int kMr>
HWY_INLINE void TileRow(const Panel& panel, const Strip& strip, int64_t m, float* lanes) {
  constexpr int kNr = TileWidth(kMr);
  for (int n = 0; n < strip.rows; n += kNr) Tile<kMr>(panel, strip, m, n, lanes + n * kMr * kLanes);
}

HWY_INLINE void MultiplyStrip(const Panel& panel, const Strip& strip, int64_t m, int64_t end, float* lanes) {
  for (; end - m >= kMaxMr; m += kMaxMr, lanes += kMaxMr * kStripRows * kLanes) TileRow<kMaxMr>(panel, strip, m, lanes);
  switch (end - m) {
    case 1:
      return TileRow<1>(panel, strip, m, lanes);
    case 2:
      return TileRow<2>(panel, strip, m, lanes);
    case 3:
      return TileRow<3>(panel, strip, m, lanes);
  }
  if constexpr (kMaxMr > 4) {
    if (end - m == 4) TileRow<4>(panel, strip, m, lanes);
    if (end - m == 5) TileRow<5>(panel, strip, m, lanes);
  }
}

// Columns [k, k + count) of `rows` rows from row `first` on, as f32 into out by out_stride, padded with zeros.
HWY_INLINE void DequantizeBlock(const Panel& panel, int first, int rows, int64_t k, int64_t count, float* out,
                                int64_t out_stride) {
  const int64_t row_bytes = RowBytes(panel.dtype, panel.k), filled = std::min(count, panel.k - k);
  const int64_t begin = RowBytes(panel.dtype, k), size = RowBytes(panel.dtype, filled);
  for (int n = 0; n < rows; ++n) {
    const std::byte* bytes = panel.weight + (first + n) * row_bytes + begin;
    // Weights stream from memory, where the hardware's prefetcher stops at every page.
    for (int64_t at = 0; at < size; at += 64) hwy::Prefetch(bytes + rows * row_bytes + at);
    Dequantize(panel.dtype, bytes, out + n * out_stride, filled);
    std::fill(out + n * out_stride + filled, out + n * out_stride + count, 0.f);
  }
}

void MultiplyPanel(const Panel& panel, float* scratch) {
  HWY_ALIGN float lanes[kBlockMr * kStripRows * kLanes];
  const bool in_place = panel.dtype == DType::kF32 && panel.k == panel.padded_k;
  const int64_t blocks = (panel.padded_k + kBlockK - 1) / kBlockK;
  const int64_t unit = std::max<int64_t>(kLanes, Info(panel.dtype).block_elements);
  const int64_t block_k = ((panel.padded_k + blocks - 1) / blocks + unit - 1) / unit * unit;
  const int strip_rows = panel.x_rows == 1 ? TileWidth(1) : kStripRows;
  for (int first = 0; first < panel.rows; first += strip_rows) {
    const int rows = std::min(strip_rows, panel.rows - first);
    for (int64_t m = 0; m < panel.x_rows; m += kBlockMr) {
      for (int64_t k = 0; k < panel.padded_k; k += block_k) {
        const int64_t count = std::min(block_k, panel.padded_k - k);
        Strip strip{.first = first,
                    .rows = rows,
                    .block = scratch + kStripRows * k,
                    .block_stride = count,
                    .k = k,
                    .count = count,
                    .begins = k == 0,
                    .ends = k + count == panel.padded_k};
        if (in_place) {
          strip.block = reinterpret_cast<const float*>(panel.weight) + first * panel.k + k;
          strip.block_stride = panel.k;
        } else if (m == 0) {
          DequantizeBlock(panel, first, rows, k, count, scratch + kStripRows * k, count);
        }
        MultiplyStrip(panel, strip, m, std::min(m + kBlockMr, panel.x_rows), lanes);
      }
    }
  }
}

}  // namespace berth::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace berth::kernels::cpu {
HWY_EXPORT(MultiplyPanel);

namespace {

// Rows of x padded with zeros to `padded` values; x itself where it needs none.
Tensor PadRows(Context& context, const Tensor& x, int64_t padded) {
  const int64_t rows = x.dim(0), k = x.dim(1);
  if (k == padded) return x;
  const Tensor out(context.padded.Get(rows * padded), DType::kF32, {rows, padded});
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = x.data<float>() + r * x.stride(0);
    float* to = out.data<float>() + r * padded;
    std::fill(std::copy(from, from + k, to), to + padded, 0.f);
  }
  return out;
}

}  // namespace

void Linear(Context& context, const Tensor& x, const LinearWeight& weight, const Tensor& bias, const Tensor& out) {
  const int64_t padded_k = (weight.k + kLanes - 1) / kLanes * kLanes;
  const Tensor input = PadRows(context, x, padded_k);
  std::vector<Panel> panels;
  panels.reserve(weight.n() / kPanelRows + weight.segments.size());
  int64_t n = 0;
  for (const LinearWeight::Segment& segment : weight.segments) {
    const size_t row_bytes = RowBytes(segment.dtype, weight.k);
    for (int64_t row = 0; row < segment.rows; row += kPanelRows) {
      panels.push_back({.x = input.data<float>(),
                        .x_rows = input.dim(0),
                        .x_stride = input.stride(0),
                        .k = weight.k,
                        .padded_k = padded_k,
                        .dtype = segment.dtype,
                        .weight = segment.data + row * row_bytes,
                        .rows = static_cast<int>(std::min<int64_t>(kPanelRows, segment.rows - row)),
                        .bias = bias.empty() ? nullptr : bias.data<float>() + n + row,
                        .out = out.data<float>() + n + row,
                        .out_stride = out.stride(0)});
    }
    n += segment.rows;
  }
  const auto multiply = HWY_DYNAMIC_DISPATCH(MultiplyPanel);
  context.pool.Run(static_cast<int>(panels.size()),
                   [&](int task, int thread) { multiply(panels[task], context.thread[thread].Get(kMaxStripRows * padded_k)); });
}

}  // namespace berth::kernels::cpu
#endif
