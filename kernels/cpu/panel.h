#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/tensor.h"

namespace berth::kernels::cpu {

inline constexpr int kLanes = 16;
inline constexpr int kMaxStripRows = 12;

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

// `scratch` holds kMaxStripRows * padded_k values. The order of the sums is linear.h's.
void MultiplyPanel(const Panel& panel, float* scratch);

}  // namespace berth::kernels::cpu
