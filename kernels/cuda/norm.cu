#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/norm.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One row per block.
template <typename T, int kWidth>
__global__ void NormKernel(NormView norm, const T* in, int64_t in_stride, const int32_t* row, T* out, int64_t hidden) {
  __shared__ float shared[kThreads / 32];
  LetSuccessorStart();
  WaitForInputs();
  const T* from = in + (row == nullptr ? blockIdx.x : row[blockIdx.x]) * in_stride;
  T* to = out + blockIdx.x * hidden;
  float2 statistics{};
  if (norm.weight != nullptr) statistics = RowStatistics<kWidth>(norm, from, hidden, shared);
  for (int64_t i = threadIdx.x * kWidth; i < hidden; i += kThreads * kWidth) {
    float x[kWidth];
    Load<kWidth>(from + i, x);
    if (norm.weight != nullptr) NormVector(norm, statistics, i, x);
    Store<kWidth>(x, to + i);
  }
}

}  // namespace

void NormRows(Context& context, const Norm& norm, const Tensor& in, const Tensor& row, const Tensor& out) {
  const bool vectors = TakesVectors(in.raw(), in.stride(0)) && TakesVectors(out.raw(), out.dim(1)) &&
                       TakesVectors(norm.weight.raw(), 0) && TakesVectors(norm.bias.raw(), 0);
  WithActivation(in.dtype(), [&](auto type) {
    using T = decltype(type);
    Launch(context, vectors ? NormKernel<T, 8> : NormKernel<T, 1>, out.dim(0), kThreads, 0, NormView::Of(norm),
           static_cast<const T*>(in.raw()), in.stride(0), static_cast<const int32_t*>(row.raw()), static_cast<T*>(out.raw()),
           out.dim(1));
  });
}

}  // namespace berth::kernels::cuda
