#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/ops.h"

namespace berth::kernels::cpu {

// out[i] = (x[i] - mean) / sqrt(variance + epsilon) * (weight[i] + weight_offset) + bias[i]. An RMS norm takes the mean as 0
// (Zhang and Sennrich, 2019); LayerNorm: Ba et al., 2016. Without a weight, a copy. `out` may be `x`.
void NormRow(const Norm& norm, const float* x, float* out, int64_t dim);

// All rows of x [rows, dim] into context.normed; x itself when there is no norm.
Tensor NormRows(Context& context, const Norm& norm, const Tensor& x);

}  // namespace berth::kernels::cpu
