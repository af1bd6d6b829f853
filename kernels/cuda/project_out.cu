#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/norm.cuh"

namespace berth::kernels::cuda {
namespace {

// residual += norm(branch + bias) * scale, one row per block.
template <typename T>
__global__ void AddBranch(NormView norm, float* branch, const float* bias, float scale, T* residual, int64_t stride,
                          int64_t hidden) {
  __shared__ float shared[32];
  float* from = branch + blockIdx.x * hidden;
  T* to = residual + blockIdx.x * stride;
  if (bias != nullptr) {
    for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) from[i] += bias[i];
  }
  float2 statistics{};
  if (norm.weight != nullptr)
    statistics = NormStatistics(
        norm, hidden, [&](int64_t i) { return from[i]; }, shared);
  for (int64_t i = threadIdx.x; i < hidden; i += blockDim.x) {
    const float x = norm.weight == nullptr ? from[i] : Normed(norm, statistics, from[i], i);
    to[i] = FromFloat<T>(ToFloat(to[i]) + x * scale);
  }
}

}  // namespace

void ProjectOut(Context& context, const ProjectOutArgs& args) {
  if (args.bias.empty() && args.post_norm.weight.empty() && args.scale == 1) {
    Linear(context, args.in, args.weight, /*beta=*/1, args.residual);
    return;
  }
  const int64_t rows = args.residual.dim(0), hidden = args.residual.dim(1);
  const Tensor branch(context.product.data(), DType::kF32, {rows, hidden});
  Linear(context, args.in, args.weight, /*beta=*/0, branch);
  WithActivation(args.residual.dtype(), [&](auto type) {
    using T = decltype(type);
    AddBranch<T><<<rows, 256, 0, context.stream>>>(NormView::Of(args.post_norm), branch.data<float>(),
                                                   static_cast<const float*>(args.bias.raw()), args.scale,
                                                   static_cast<T*>(args.residual.raw()), args.residual.stride(0), hidden);
  });
}

}  // namespace berth::kernels::cuda
