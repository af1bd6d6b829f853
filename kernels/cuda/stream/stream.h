#pragma once

#include "kernels/cuda/context.h"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

// The stage ops and plain products on the streaming kernels (chain_sm90.cuh, wide_product_sm90.cuh): queued, or pending in the
// context. False, with nothing done, where they do not take the shape: see stream_params.h; weights in several segments, norms
// other than RMS, unaligned rows.

// Of up to so many tokens a product is a part of a chain, where its shape can be. Of more, split/ and gated/ are faster.
inline constexpr int64_t kFewTokens = 8;

// Whether a product [*, k] x [k, n] is of a layer as small as M1's in docs/performance.md: its waits weigh more than its bytes.
constexpr bool SmallLayers(int64_t n, int64_t k) { return n <= 2048 || k <= 2048; }

// Not with norms of q or k, nor where a head is rotated in part.
bool StreamAttnIn(Context& context, const AttnInArgs& args);
bool StreamMlpUp(Context& context, const MlpUpArgs& args);
// At most kFewTokens: only chains pick rows.
bool StreamHead(Context& context, const HeadArgs& args);

// out = (in · Wᵀ + bias) * scale, plus what `out` holds if `accumulate`. `out` is f32 or the activations' dtype.
struct LinearFinish {
  Tensor bias;  // f32 [N] or empty
  float scale = 1;
  bool accumulate = false;
};
bool StreamLinear(Context& context, const Tensor& in, const LinearWeight& weight, const LinearFinish& finish,
                  const Tensor& out);

}  // namespace berth::kernels::cuda
