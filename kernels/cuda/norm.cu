#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/norm.cuh"

namespace berth::kernels::cuda {
namespace {

template <typename T>
__global__ void NormKernel(NormView norm, const T* in, int64_t in_stride, const int32_t* row, T* out, int64_t hidden) {
  __shared__ float shared[32];
  const T* from = in + (row == nullptr ? blockIdx.x : row[blockIdx.x]) * in_stride;
  T* to = out + blockIdx.x * hidden;
  if (norm.weight == nullptr) {
    for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) to[i] = from[i];
    return;
  }
  const float2 statistics = NormStatistics(
      norm, hidden, [&](int64_t i) { return ToFloat(from[i]); }, shared);
  for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x)
    to[i] = FromFloat<T>(Normed(norm, statistics, ToFloat(from[i]), i));
}

}  // namespace

void NormRows(Context& context, const Norm& norm, const Tensor& in, const Tensor& row, const Tensor& out) {
  WithActivation(in.dtype(), [&](auto type) {
    using T = decltype(type);
    NormKernel<T><<<out.dim(0), 256, 0, context.stream>>>(NormView::Of(norm), static_cast<const T*>(in.raw()), in.stride(0),
                                                          static_cast<const int32_t*>(row.raw()), static_cast<T*>(out.raw()),
                                                          out.dim(1));
  });
}

}  // namespace berth::kernels::cuda
