#pragma once

#include "kernels/cuda/context.h"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

// The stage ops and plain products on the streaming kernel (stream_product_sm90.cuh), each as one kernel. False, with nothing
// queued, where it does not take the shape: see PlanStream; weights in several segments, norms other than RMS, unaligned rows.

// Not with norms of q or k, nor where a head is rotated in part.
bool StreamAttnIn(Context& context, const AttnInArgs& args);
bool StreamMlpUp(Context& context, const MlpUpArgs& args);
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
