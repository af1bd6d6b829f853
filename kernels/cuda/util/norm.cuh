#pragma once

#include "kernels/cuda/util/numeric.cuh"
#include "kernels/cuda/util/vector.cuh"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

// A Norm as kernels take it. `weight` null: no norm.
struct NormView {
  const float* weight = nullptr;
  const float* bias = nullptr;
  float epsilon = 0;
  float weight_offset = 0;
  bool layer = false;

  static NormView Of(const Norm& norm) {
    return {static_cast<const float*>(norm.weight.raw()), static_cast<const float*>(norm.bias.raw()), norm.epsilon,
            norm.weight_offset, norm.kind == NormKind::kLayer};
  }
};

// Mean and reciprocal deviation (LayerNorm) or 0 and reciprocal root mean square of a row of `count` values, by all threads of
// the block, which read `kWidth` values at a time. `shared` has a float per warp.
template <int kWidth, typename T>
__device__ float2 RowStatistics(const NormView& norm, const T* row, int64_t count, float* shared) {
  const auto sum_of = [&](auto term) {
    float sum = 0;
    for (int64_t i = threadIdx.x * kWidth; i < count; i += blockDim.x * kWidth) {
      float x[kWidth];
      Load<kWidth>(row + i, x);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) sum += term(x[e]);
    }
    return BlockSum(sum, shared) / static_cast<float>(count);
  };
  const float mean = norm.layer ? sum_of([](float x) { return x; }) : 0.f;
  const float variance = sum_of([mean](float x) { return (x - mean) * (x - mean); });
  return {mean, rsqrtf(variance + norm.epsilon)};
}

// Norms the values at [first, first + kWidth) of a row.
template <int kWidth>
__device__ void NormVector(const NormView& norm, float2 statistics, int64_t first, float (&x)[kWidth]) {
  float weight[kWidth], bias[kWidth] = {};
  Load<kWidth>(norm.weight + first, weight);
  if (norm.bias != nullptr) Load<kWidth>(norm.bias + first, bias);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    x[e] = (x[e] - statistics.x) * statistics.y * (weight[e] + norm.weight_offset) + bias[e];
  }
}

}  // namespace berth::kernels::cuda
