#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One row per block.
template <typename T>
__global__ void EmbedRows(const int32_t* token, const int32_t* last_token, const T* table, int64_t hidden, float scale, T* out,
                          int64_t out_stride) {
  LetSuccessorStart();
  WaitForInputs();
  int32_t id = token[blockIdx.x];
  T* to = out + blockIdx.x * out_stride;
  if (id == kNoToken) {
    for (int64_t i = threadIdx.x; i < hidden; i += kThreads) to[i] = FromFloat<T>(0);
    return;
  }
  if (id < 0) id = last_token[~id];
  const T* from = table + id * hidden;
  for (int64_t i = threadIdx.x; i < hidden; i += kThreads) to[i] = FromFloat<T>(ToFloat(from[i]) * scale);
}

}  // namespace

void Embed(Context& context, const EmbedArgs& args) {
  BERTH_CHECK(args.table.segments.size() == 1 && args.table.segments[0].dtype == args.out.dtype())
      << "the embedding is not one table of " << Info(args.out.dtype()).name;
  WithActivation(args.out.dtype(), [&](auto type) {
    using T = decltype(type);
    Launch(context, EmbedRows<T>, args.out.dim(0), kThreads, 0, args.token.data<int32_t>(),
           static_cast<const int32_t*>(args.last_token.raw()), reinterpret_cast<const T*>(args.table.segments[0].data),
           args.table.k, args.scale, static_cast<T*>(args.out.raw()), args.out.stride(0));
  });
}

}  // namespace berth::kernels::cuda
