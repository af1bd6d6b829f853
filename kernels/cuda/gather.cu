#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One row per block.
template <typename T>
__global__ void GatherRows(const T* in, int64_t in_stride, const int32_t* row, int64_t width, T* out, int64_t out_stride) {
  LetSuccessorStart();
  WaitForInputs();
  const T* const from = in + row[blockIdx.x] * in_stride;
  T* const to = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) to[i] = from[i];
}

}  // namespace

void Gather(Context& context, const GatherArgs& args) {
  context.Flush();
  // Attention of gathered rows reads ahead of its wait keys that the kernel before this one writes.
  context.serial = true;
  WithActivation(args.in.dtype(), [&](auto type) {
    using T = decltype(type);
    Launch(context, GatherRows<T>, args.row.dim(0), kThreads, 0, static_cast<const T*>(args.in.raw()), args.in.stride(0),
           args.row.data<int32_t>(), args.in.dim(1), static_cast<T*>(args.out.raw()), args.out.stride(0));
  });
}

}  // namespace berth::kernels::cuda
