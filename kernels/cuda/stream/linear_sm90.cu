#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/epilogues.cuh"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/stream/stream_params.h"

namespace berth::kernels::cuda {
bool StreamLinear(Context& context, const Tensor& in, const LinearWeight& weight, const LinearFinish& finish,
                  const Tensor& out) {
  const stream::ProductInputs inputs{in, Tensor(), in.dim(0), nullptr, weight, 0};
  const auto launch = [&](auto type, auto out_type) {
    using T = decltype(type);
    using Out = decltype(out_type);
    return stream::LaunchProduct<T, false>(context, inputs,
                                           stream::StoreEpilogue<Out>{.n = weight.n(),
                                                                      .bias = static_cast<const float*>(finish.bias.raw()),
                                                                      .scale = finish.scale,
                                                                      .softcap = 0,
                                                                      .accumulate = finish.accumulate,
                                                                      .out = static_cast<Out*>(out.raw()),
                                                                      .out_stride = out.stride(0)});
  };
  bool taken = false;
  WithActivation(in.dtype(),
                 [&](auto type) { taken = out.dtype() == DType::kF32 ? launch(type, float{}) : launch(type, type); });
  return taken;
}

bool StreamHead(Context& context, const HeadArgs& args) {
  const auto product = stream::LinkProductOf(context, {args.residual, args.row, args.row.dim(0), &args.norm, args.weight, 0});
  if (!product) return false;
  WithActivation(args.residual.dtype(), [&](auto type) {
    stream::AddToChain<decltype(type)>(context, *product,
                                       stream::StoreEpilogue<float>{.n = args.weight.n(),
                                                                    .bias = static_cast<const float*>(args.bias.raw()),
                                                                    .scale = args.scale,
                                                                    .softcap = args.softcap,
                                                                    .accumulate = false,
                                                                    .out = args.logits.data<float>(),
                                                                    .out_stride = args.logits.stride(0)});
  });
  return true;
}

}  // namespace berth::kernels::cuda
