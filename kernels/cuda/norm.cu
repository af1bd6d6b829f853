#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/norm.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256, kMostThreads = 1024;
constexpr int kVector = 8;

// One row of whole vectors per block, one of them per thread. It is read once, and the weight, which never changes, before it
// is there.
template <typename T>
__global__ void NormVectors(NormView norm, const T* in, int64_t in_stride, const int32_t* row, T* out, int64_t hidden) {
  __shared__ float shared[kMostThreads / 32];
  LetSuccessorStart();
  const int64_t i = threadIdx.x * int64_t{kVector};
  const bool own = i < hidden;
  float weight[kVector] = {}, bias[kVector] = {}, x[kVector] = {};
  if (own) Load<kVector>(norm.weight + i, weight);
  if (own && norm.bias != nullptr) Load<kVector>(norm.bias + i, bias);
  WaitForInputs();
  if (own) Load<kVector>(in + (row == nullptr ? blockIdx.x : row[blockIdx.x]) * in_stride + i, x);
  const auto mean_of = [&](auto term) {
    float sum = 0;
#pragma unroll
    for (int e = 0; e < kVector; ++e) sum += own ? term(x[e]) : 0;
    return BlockSum(sum, shared) / static_cast<float>(hidden);
  };
  const float mean = norm.layer ? mean_of([](float value) { return value; }) : 0.f;
  const float factor = rsqrtf(mean_of([mean](float value) { return (value - mean) * (value - mean); }) + norm.epsilon);
  if (!own) return;
#pragma unroll
  for (int e = 0; e < kVector; ++e) x[e] = (x[e] - mean) * factor * (weight[e] + norm.weight_offset) + bias[e];
  Store<kVector>(x, out + blockIdx.x * hidden + i);
}

// One row of any width per block.
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
  const int64_t hidden = out.dim(1), threads = (hidden / kVector + 31) / 32 * 32;
  const bool one_each = vectors && !norm.weight.empty() && hidden % kVector == 0 && threads <= kMostThreads;
  WithActivation(in.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto kernel = one_each ? NormVectors<T> : vectors ? NormKernel<T, kVector> : NormKernel<T, 1>;
    Launch(context, kernel, out.dim(0), one_each ? threads : kThreads, 0, NormView::Of(norm), static_cast<const T*>(in.raw()),
           in.stride(0), static_cast<const int32_t*>(row.raw()), static_cast<T*>(out.raw()), hidden);
  });
}

}  // namespace berth::kernels::cuda
