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
inline constexpr int kStripRows = 8;   // what is dequantised at a time: it should fit the first-level cache

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
constexpr int kMaxMr = kParts == 1 ? 6 : 3;

// The tile's width for `mr` rows of x: as many accumulators as the registers hold.
constexpr int TileWidth(int mr) { return kParts == 1 ? (mr <= 3 ? 8 : 4) : (mr == 1 ? 4 : 2); }

// Four sums of 16 lanes each, in the order that linear.h names.
HWY_INLINE void ReduceFour(const V (*acc)[kParts], float* sums) {
  HWY_ALIGN float group[kLanes];  // of each sum, four lanes: [lane / 4][sum]
#if HWY_TARGET == HWY_SCALAR
  const auto at = [&](int sum, int lane) { return hn::GetLane(acc[sum][lane]); };
  for (int lane = 0; lane < kLanes; ++lane) {
    const int sum = lane % 4, first = lane / 4 * 4;
    group[lane] = (at(sum, first) + at(sum, first + 2)) + (at(sum, first + 1) + at(sum, first + 3));
  }
  for (int i = 0; i < 4; ++i) sums[i] = (group[i] + group[8 + i]) + (group[4 + i] + group[12 + i]);
#else
  const D d;
  const hn::Repartition<double, D> pairs;
  for (int p = 0; p < kParts; ++p) {
    const V a = hn::Add(hn::InterleaveLower(d, acc[0][p], acc[1][p]), hn::InterleaveUpper(d, acc[0][p], acc[1][p]));
    const V b = hn::Add(hn::InterleaveLower(d, acc[2][p], acc[3][p]), hn::InterleaveUpper(d, acc[2][p], acc[3][p]));
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

// kMr rows of x times up to TileWidth(kMr) rows of the panel. The panel rows of a narrower tile repeat the last one.
template <int kMr>
HWY_INLINE void Tile(const Panel& panel, int64_t m, const float* const* w, int n, int width) {
  constexpr int kNr = TileWidth(kMr);
  constexpr int kSums = (kMr * kNr + 3) / 4 * 4;
  const D d;
  V acc[kSums][kParts];
  for (auto& sum : acc) {
    for (V& part : sum) part = hn::Zero(d);
  }
  const float* x = panel.x + m * panel.x_stride;
  for (int64_t k = 0; k < panel.padded_k; k += kLanes) {
    for (int p = 0; p < kParts; ++p) {
      const int64_t at = k + p * kVectorLanes;
      V wv[kNr];
      for (int j = 0; j < kNr; ++j) wv[j] = hn::LoadU(d, w[j] + at);
      for (int i = 0; i < kMr; ++i) {
        const V xv = hn::LoadU(d, x + i * panel.x_stride + at);
        for (int j = 0; j < kNr; ++j) acc[i * kNr + j][p] = hn::MulAdd(xv, wv[j], acc[i * kNr + j][p]);
      }
    }
  }
  float sums[kSums];
  for (int i = 0; i < kSums; i += 4) ReduceFour(acc + i, sums + i);
  for (int i = 0; i < kMr; ++i) {
    float* out = panel.out + (m + i) * panel.out_stride + n;
    for (int j = 0; j < width; ++j) out[j] = panel.bias == nullptr ? sums[i * kNr + j] : sums[i * kNr + j] + panel.bias[n + j];
  }
}

// `rows` rows of the panel from row `first` on, which lie at w as f32, times rows [begin, end) of x.
template <int kMr>
HWY_INLINE void Strip(const Panel& panel, const float* w, int first, int rows, int64_t begin, int64_t end) {
  constexpr int kNr = TileWidth(kMr);
  for (int n = 0; n < rows; n += kNr) {
    const float* row[kNr];
    for (int j = 0; j < kNr; ++j) row[j] = w + std::min(n + j, rows - 1) * panel.padded_k;
    for (int64_t m = begin; m < end; m += kMr) Tile<kMr>(panel, m, row, first + n, std::min(kNr, rows - n));
  }
}

HWY_INLINE void MultiplyStrip(const Panel& panel, const float* w, int first, int rows) {
  const int64_t m = panel.x_rows, whole = m / kMaxMr * kMaxMr;
  if (whole > 0) Strip<kMaxMr>(panel, w, first, rows, 0, whole);
  switch (m - whole) {
    case 1:
      return Strip<1>(panel, w, first, rows, whole, m);
    case 2:
      return Strip<2>(panel, w, first, rows, whole, m);
    case 3:
      return Strip<3>(panel, w, first, rows, whole, m);
    case 4:
      return Strip<4>(panel, w, first, rows, whole, m);
    case 5:
      return Strip<5>(panel, w, first, rows, whole, m);
  }
}

void MultiplyPanel(const Panel& panel, float* scratch) {
  const size_t row_bytes = RowBytes(panel.dtype, panel.k);
  const bool in_place = panel.dtype == DType::kF32 && panel.k == panel.padded_k;
  for (int first = 0; first < panel.rows; first += kStripRows) {
    const int rows = std::min(kStripRows, panel.rows - first);
    const std::byte* from = panel.weight + first * row_bytes;
    for (int n = 0; n < rows && !in_place; ++n) {
      const std::byte* bytes = from + n * row_bytes;
      // Weights stream from memory, where the hardware's prefetcher stops at every page.
      for (size_t at = 0; at < row_bytes; at += 64) hwy::Prefetch(bytes + kStripRows * row_bytes + at);
      float* row = scratch + n * panel.padded_k;
      Dequantize(panel.dtype, bytes, row, panel.k);
      std::fill(row + panel.k, row + panel.padded_k, 0.f);
    }
    MultiplyStrip(panel, in_place ? reinterpret_cast<const float*>(from) : scratch, first, rows);
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
                   [&](int task, int thread) { multiply(panels[task], context.thread[thread].Get(kStripRows * padded_k)); });
}

}  // namespace berth::kernels::cpu
#endif
