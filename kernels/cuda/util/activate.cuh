#pragma once

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

}  // namespace berth::kernels::cuda
