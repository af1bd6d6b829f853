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
    int position, sequence;
    float2 angle;
    T* to;
  };

  __device__ bool Rotates(int head) const { return finish.pairs > 0 && !finish.IsV(head); }

  __device__ Prepared Prepare(int first, int second, int token) const {
    return {.position = finish.position[token], .sequence = finish.sequence_of[token], .angle = {1, 0}, .to = nullptr};
  }
  // All that takes time and does not need the sums.
  __device__ void Resolve(Prepared& prepared, int first, int token) const {
    const int head = first / finish.head_dim, at = first % finish.head_dim, position = prepared.position;
    const int block = finish.IsQ(head) ? 0 : finish.Block(position, prepared.sequence);
    if (Rotates(head)) prepared.angle = finish.Angle(finish.Frequency(at, prepared.sequence), position);
    prepared.to = finish.To<T>(head, token, position, block) + at;
  }
  __device__ void Finish(const Prepared& prepared, int first, int second, int token, float a, float b) const {
    if (finish.bias != nullptr) {
      a += finish.bias[first];
      b += finish.bias[second];
    }
    const float2 rotated = Rotated(finish.Clipped(a), finish.Clipped(b), prepared.angle);
    prepared.to[0] = FromFloat<T>(rotated.x);
    prepared.to[second - first] = FromFloat<T>(rotated.y);
  }
};

}  // namespace

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
    taken = stream::LaunchProduct<T, true>(context, inputs, AttnInEpilogue<T>{AttnFinish::Of(args)});
  });
  return taken;
}

}  // namespace berth::kernels::cuda
