#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda {
namespace {

__device__ float Activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + __expf(-x));
    case Activation::kGelu:
      return 0.5f * x * (1 + erff(x * 0.70710678f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case Activation::kRelu:
      return fmaxf(x, 0);
  }
  return x;
}

template <typename T>
__global__ void ActivateRows(Activation activation, bool gated, const T* product, const float* bias, int64_t inter, T* out,
                             int64_t out_stride) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (i >= inter) return;
  const T* from = product + row * (gated ? 2 * inter : inter);
  float x = ToFloat(from[i]);
  if (bias != nullptr) x += bias[i];
  x = Activate(activation, x);
  if (gated) x *= ToFloat(from[inter + i]) + (bias == nullptr ? 0.f : bias[inter + i]);
  out[row * out_stride + i] = FromFloat<T>(x);
}

}  // namespace

void MlpUp(Context& context, const MlpUpArgs& args) {
  const int64_t rows = args.out.dim(0), inter = args.out.dim(1);
  const DType dtype = args.residual.dtype();
  const Tensor normed(context.normed.data(), dtype, {rows, args.weight.k});
  const Tensor product(context.product.data(), dtype, {rows, args.weight.n()});
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  Linear(context, normed, args.weight, 0, product);
  const dim3 grid((inter + 255) / 256, rows);
  WithActivation(dtype, [&](auto type) {
    using T = decltype(type);
    ActivateRows<T><<<grid, 256, 0, context.stream>>>(args.activation, args.gated, static_cast<const T*>(product.raw()),
                                                      static_cast<const float*>(args.bias.raw()), inter,
                                                      static_cast<T*>(args.out.raw()), args.out.stride(0));
  });
}

}  // namespace berth::kernels::cuda
