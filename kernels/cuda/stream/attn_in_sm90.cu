#include "kernels/cuda/attn_finish.cuh"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/stream/stream_params.h"

namespace berth::kernels::cuda {
namespace {

// A pair is two dimensions of one head of q, k or v: two that are rotated together, or two of a model without rotation.
template <typename T>
struct AttnInEpilogue {
  AttnFinish finish;

  struct Prepared {
    int position, sequence, block;
    float frequency;
  };

  __device__ bool Rotates(int row) const { return finish.pairs > 0 && !finish.IsV(row / finish.head_dim); }

  __device__ Prepared Prepare(int first, int second, int token) const {
    Prepared prepared{.position = finish.position[token], .sequence = finish.sequence_of[token], .block = 0, .frequency = 0};
    if (finish.rope_variant == nullptr && Rotates(first))
      prepared.frequency = finish.inverse_frequency[first % finish.head_dim];
    return prepared;
  }
  __device__ void Resolve(Prepared& prepared, int first, int token) const {
    prepared.block = finish.Block(prepared.position, prepared.sequence);
    if (finish.rope_variant != nullptr && Rotates(first)) {
      prepared.frequency = finish.Frequency(first % finish.head_dim, prepared.sequence);
    }
  }
  __device__ void Finish(const Prepared& prepared, int first, int second, int token, float a, float b) const {
    if (finish.bias != nullptr) {
      a += finish.bias[first];
      b += finish.bias[second];
    }
    const float2 angle = Rotates(first) ? finish.Angle(prepared.frequency, prepared.position) : float2{1, 0};
    const float2 rotated = Rotated(finish.Clipped(a), finish.Clipped(b), angle);
    T* to = finish.To<T>(first / finish.head_dim, token, prepared.position, prepared.block) + first % finish.head_dim;
    to[0] = FromFloat<T>(rotated.x);
    to[second - first] = FromFloat<T>(rotated.y);
  }
};

}  // namespace

bool StreamAttnIn(Context& context, const AttnInArgs& args) {
  if (!args.q_norm.weight.empty() || !args.k_norm.weight.empty()) return false;
  const Tensor& frequency = args.rope.inverse_frequency;
  const int64_t pairs = frequency.empty() ? 0 : frequency.dim(1);
  // All of a head is rotated, or nothing and a tile lies in one head.
  if (pairs == 0 ? args.head_dim % stream::kTileRows != 0 : 2 * pairs != args.head_dim) return false;
  const auto params = stream::StreamParamsOf(context, args.residual, Tensor(), args.batch.tokens, &args.norm, args.qkv, pairs);
  if (!params) return false;
  WithActivation(args.residual.dtype(), [&](auto type) {
    using T = decltype(type);
    stream::LaunchStream<T, true>(context, *params, AttnInEpilogue<T>{AttnFinish::Of(args)});
  });
  return true;
}

}  // namespace berth::kernels::cuda
