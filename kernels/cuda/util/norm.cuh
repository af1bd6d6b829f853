#pragma once

#include "kernels/cuda/util/numeric.cuh"
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

// Mean and reciprocal deviation (LayerNorm) or 0 and reciprocal root mean square of `count` values that the block's threads
// read through `value(i)`.
template <typename Value>
__device__ float2 NormStatistics(const NormView& norm, int64_t count, Value value, float* shared) {
  float mean = 0;
  if (norm.layer) {
    float sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += value(i);
    mean = BlockSum(sum, shared) / static_cast<float>(count);
  }
  float squares = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) squares += (value(i) - mean) * (value(i) - mean);
  return {mean, rsqrtf(BlockSum(squares, shared) / static_cast<float>(count) + norm.epsilon)};
}

__device__ inline float Normed(const NormView& norm, float2 statistics, float x, int64_t i) {
  const float scaled = (x - statistics.x) * statistics.y * (norm.weight[i] + norm.weight_offset);
  return norm.bias == nullptr ? scaled : scaled + norm.bias[i];
}

}  // namespace berth::kernels::cuda
