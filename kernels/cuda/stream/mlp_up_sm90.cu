#include "kernels/cuda/stream/epilogues.cuh"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/stream/stream_params.h"

namespace berth::kernels::cuda {
bool StreamMlpUp(Context& context, const MlpUpArgs& args) {
  const int64_t inter = args.out.dim(1);
  const stream::ProductInputs inputs{args.residual, Tensor(), args.out.dim(0), &args.norm, args.weight, args.gated ? inter : 0};
  bool taken = false;
  WithActivation(args.residual.dtype(), [&](auto type) {
    using T = decltype(type);
    taken = stream::LaunchProduct<T, true>(context, inputs,
                                           stream::MlpUpEpilogue<T>{.activation = args.activation,
                                                                    .gated = args.gated,
                                                                    .bias = static_cast<const float*>(args.bias.raw()),
                                                                    .inter = inter,
                                                                    .out = static_cast<T*>(args.out.raw()),
                                                                    .out_stride = args.out.stride(0)});
  });
  return taken;
}

}  // namespace berth::kernels::cuda
