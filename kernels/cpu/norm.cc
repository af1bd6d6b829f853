#include "kernels/cpu/norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/vector_math.h"

namespace berth::kernels::cpu {

void NormRow(const Norm& norm, const float* x, float* out, int64_t dim) {
  if (norm.weight.empty()) {
    if (out != x) std::copy(x, x + dim, out);
    return;
  }
  float mean = 0;
  if (norm.kind == NormKind::kLayer) {
    mean = static_cast<float>(Sum(x, dim) / dim);
    for (int64_t i = 0; i < dim; ++i) out[i] = x[i] - mean;
    x = out;
  }
  const float variance = static_cast<float>(SumOfSquares(x, dim) / dim);
  const float scale = 1 / std::sqrt(variance + norm.epsilon);
  const float* weight = norm.weight.data<float>();
  const float offset = norm.weight_offset;
  for (int64_t i = 0; i < dim; ++i) out[i] = x[i] * scale * (weight[i] + offset);
  if (norm.bias.empty()) return;
  const float* bias = norm.bias.data<float>();
  for (int64_t i = 0; i < dim; ++i) out[i] += bias[i];
}

Tensor NormRows(Context& context, const Norm& norm, const Tensor& x) {
  if (norm.weight.empty()) return x;
  const int64_t rows = x.dim(0), dim = x.dim(1);
  const Tensor out(context.normed.Get(rows * dim), DType::kF32, {rows, dim});
  ForRows(context, rows,
          [&](int64_t r, int) { NormRow(norm, x.data<float>() + r * x.stride(0), out.data<float>() + r * dim, dim); });
  return out;
}

}  // namespace berth::kernels::cpu
