#pragma once

#include "kernels/cpu/context.h"
#include "kernels/linear_weight.h"
#include "kernels/ops.h"
#include "kernels/tensor.h"

namespace berth::kernels::cpu {

// out[r, n] = Σ_k x[r, k] w[n, k] + bias[n]; x f32 [rows, K], out f32 [rows, N], bias f32 [N] or empty.
//
// Order of the sum, the same for every number of rows and threads and on AVX2 and AVX-512: 16 lanes, lane j takes the products
// k = j, j + 16, … in rising order, each fused into its running sum (K is padded with zeros to a multiple of 16); then lanes
// j + (j + 8), then j + (j + 4), then (0 + 2) + (1 + 3), then the bias.
//
// How: a task takes a panel of weight rows. One row of x is multiplied with values as they are dequantised; for more, strips of
// the panel are dequantised to f32 once, packed as the multiplying tiles read them, and so is x.
void Linear(Context& context, const Tensor& x, const LinearWeight& weight, const Tensor& bias, const Tensor& out);

// product[r] += up · (down · in[r]) for the adapter's rows r. Takes context.row, expert_in and expert_up.
void AddAdapter(Context& context, const ImageAdapter& adapter, const Tensor& in, const Tensor& product);

}  // namespace berth::kernels::cpu
