#pragma once

#include "kernels/cuda/util/numeric.cuh"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

__device__ inline float Activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu:
      return __fdividef(x, 1 + __expf(-x));  // x / infinity where that is: zero
    case Activation::kGelu:
      return 0.5f * x * (1 + erff(x * 0.70710678f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case Activation::kRelu:
      return fmaxf(x, 0);
  }
  return x;
}

// SiLU of both. A reciprocal takes as long as an exponential, so one serves two; where e^-x exceeds 2^62, that stands for it.
__device__ inline float2 Silu(float2 x) {
  const float a = 1 + Exp2(fminf(-kLog2E * x.x, 62)), b = 1 + Exp2(fminf(-kLog2E * x.y, 62)), inverse = Reciprocal(a * b);
  return {x.x * (b * inverse), x.y * (a * inverse)};
}

}  // namespace berth::kernels::cuda
