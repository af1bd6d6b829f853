#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One thread per chunk and column: the rows are added in their order.
template <typename T>
__global__ void AddRows(const T* normed, const int32_t* begin, const int32_t* end, const int32_t* slot, const int32_t* fresh,
                        int64_t hidden, float* sum, int64_t sum_stride) {
  LetSuccessorStart();
  WaitForInputs();
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= hidden) return;
  float& total = sum[slot[blockIdx.y] * sum_stride + column];
  float x = fresh[blockIdx.y] != 0 ? 0.f : total;
  for (int row = begin[blockIdx.y]; row < end[blockIdx.y]; ++row) x += ToFloat(normed[row * hidden + column]);
  total = x;
}

}  // namespace

void Pool(Context& context, const PoolArgs& args) {
  const int64_t hidden = args.sum.dim(1);
  const Tensor normed(context.normed.data(), args.residual.dtype(), {args.residual.dim(0), hidden});
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  WithActivation(args.residual.dtype(), [&](auto type) {
    using T = decltype(type);
    Launch(context, AddRows<T>, dim3((hidden + kThreads - 1) / kThreads, args.slot.dim(0)), kThreads, 0,
           static_cast<const T*>(normed.raw()), args.begin.data<int32_t>(), args.end.data<int32_t>(), args.slot.data<int32_t>(),
           args.fresh.data<int32_t>(), hidden, args.sum.data<float>(), args.sum.stride(0));
  });
}

}  // namespace berth::kernels::cuda
