#include "kernels/cuda/stream/epilogues.cuh"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/stream/stream_params.h"

namespace berth::kernels::cuda {
bool StreamAttnIn(Context& context, const AttnInArgs& args) {
  if (!args.q_norm.weight.empty() || !args.k_norm.weight.empty() || args.log_length != 0) return false;
  const Tensor& frequency = args.rope.inverse_frequency;
  const int64_t pairs = frequency.empty() ? 0 : frequency.dim(1);
  // All of a head is rotated, or nothing and a tile lies in one head.
  if (pairs == 0 ? args.head_dim % stream::kTileRows != 0 : 2 * pairs != args.head_dim) return false;
  const stream::ProductInputs inputs{args.residual, Tensor(), args.batch.tokens, &args.norm, args.qkv, pairs};
  bool taken = false;
  WithActivation(args.residual.dtype(), [&](auto type) {
    using T = decltype(type);
    taken = stream::LaunchProduct<T, true>(context, inputs, stream::AttnInEpilogue<T>{AttnFinish::Of(args)});
  });
  return taken;
}

}  // namespace berth::kernels::cuda
