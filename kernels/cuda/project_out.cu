#include "kernels/cuda/split/split.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/norm.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// residual += norm(branch + bias) * scale, one row per block.
template <typename T, int kWidth>
__global__ void AddBranch(NormView norm, float* branch, const float* bias, float scale, T* residual, int64_t stride,
                          int64_t hidden) {
  __shared__ float shared[kThreads / 32];
  LetSuccessorStart();
  WaitForInputs();
  float* from = branch + blockIdx.x * hidden;
  T* to = residual + blockIdx.x * stride;
  if (bias != nullptr) {
    // A thread reads again only what it wrote.
    for (int64_t i = threadIdx.x * kWidth; i < hidden; i += kThreads * kWidth) {
      for (int e = 0; e < kWidth; ++e) from[i + e] += bias[i + e];
    }
  }
  float2 statistics{};
  if (norm.weight != nullptr) statistics = RowStatistics<kWidth>(norm, from, hidden, shared);
  for (int64_t i = threadIdx.x * kWidth; i < hidden; i += kThreads * kWidth) {
    float x[kWidth], sum[kWidth];
    Load<kWidth>(from + i, x);
    if (norm.weight != nullptr) NormVector(norm, statistics, i, x);
    Load<kWidth>(to + i, sum);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum[e] += x[e] * scale;
    Store<kWidth>(sum, to + i);
  }
}

}  // namespace

void ProjectOut(Context& context, const ProjectOutArgs& args) {
  if (args.post_norm.weight.empty() && !TakesAdapter(context, args.adapter)) {
    if (args.bias.empty() && args.scale == 1) return Linear(context, args.in, args.weight, /*beta=*/1, args.residual);
    const LinearFinish finish{.bias = args.bias, .scale = args.scale, .accumulate = true};
    if (SplitLinear(context, args.in, args.weight, finish, args.residual)) return;
    if (StreamLinear(context, args.in, args.weight, finish, args.residual)) return;
  }
  const int64_t rows = args.residual.dim(0), hidden = args.residual.dim(1);
  const Tensor branch(context.product.data(), DType::kF32, {rows, hidden});
  Linear(context, args.in, args.weight, /*beta=*/0, branch);
  AddAdapter(context, args.adapter, args.in, branch);
  const bool vectors = TakesVectors(args.residual.raw(), args.residual.stride(0)) && hidden % 8 == 0 &&
                       TakesVectors(args.post_norm.weight.raw(), 0) && TakesVectors(args.post_norm.bias.raw(), 0);
  WithActivation(args.residual.dtype(), [&](auto type) {
    using T = decltype(type);
    Launch(context, vectors ? AddBranch<T, 8> : AddBranch<T, 1>, rows, kThreads, 0, NormView::Of(args.post_norm),
           branch.data<float>(), static_cast<const float*>(args.bias.raw()), args.scale, static_cast<T*>(args.residual.raw()),
           args.residual.stride(0), hidden);
  });
}

}  // namespace berth::kernels::cuda
