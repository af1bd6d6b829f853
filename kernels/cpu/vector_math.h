#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace berth::kernels::cpu {

// Element-wise and row-wise primitives. The result for an element depends on nothing but its inputs; sums run in one fixed
// order.

// sum of x[i]² and of x[i], in double.
double SumOfSquares(const float* x, int64_t n);
double Sum(const float* x, int64_t n);

// The lowest index of the largest value; -1 if there is none or one is NaN.
int64_t IndexOfMax(const float* x, int64_t n);

// out[i] = exp(scale * (x[i] - shift)); NaN stays NaN. `out` may be `x`.
void ExpShifted(const float* x, float shift, float scale, float* out, int64_t n);

// out[i] = bound * tanh(x[i] / bound). `out` may be `x`.
void SoftCap(const float* x, float bound, float* out, int64_t n);

// out[i] = activation(gate[i]) * up[i], or activation(gate[i]) where `up` is null.
//   silu: x / (1 + exp(-x)); gelu: x / 2 * (1 + erf(x / √2)); gelu_tanh: x / 2 * (1 + tanh(√(2/π) (x + 0.044715 x³)))
void Activate(Activation activation, const float* gate, const float* up, float* out, int64_t n);

}  // namespace berth::kernels::cpu
