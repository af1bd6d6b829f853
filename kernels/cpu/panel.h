#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/tensor.h"

namespace berth::kernels::cpu {

inline constexpr int kLanes = 16;

// Rows of a weight that are multiplied together, at most, and how many f32 values of a weight are kept unpacked.
inline constexpr int kMaxStripRows = 12;
inline constexpr int64_t kHeldValues = 40 * 1024;

// Some rows of one segment of a weight, and everything they are multiplied with: what one task of a product does.
struct Panel {
  const float* x;  // one row of padded_k values; more rows as PackRows lays them out
  int64_t x_rows;
  int64_t k, padded_k;  // padded_k is a multiple of kLanes
  DType dtype;
  const std::byte* weight;  // of the first row
  int rows;
  const float* bias;  // of the first row, or null
  float* out;         // [x_rows, rows] by out_stride
  int64_t out_stride;
};

// Rows of x, f32 [rows, k], for panels: rows * padded_k values, in the order of the tiles that this processor multiplies.
void PackRows(const Tensor& x, int64_t padded_k, float* out);

// What MultiplyPanel needs for itself, in f32 values.
inline int64_t PanelScratch(int64_t padded_k) { return std::max(kHeldValues, kMaxStripRows * padded_k); }

// The order of the sums is linear.h's.
void MultiplyPanel(const Panel& panel, float* scratch);

}  // namespace berth::kernels::cpu
