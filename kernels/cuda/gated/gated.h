#pragma once

#include "kernels/cuda/context.h"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

// MlpUp as its norm, into context.normed, and one kernel of Hopper's (gated_product_sm90.cuh). Sums along K in one order,
// whatever the number of tokens. False, with nothing queued, where it does not take the shape: other activations than SiLU, no
// gate, weights in several segments or of another dtype, an inner or outer size that is no multiple of 8, unaligned rows.
bool GatedMlpUp(Context& context, const MlpUpArgs& args);

}  // namespace berth::kernels::cuda
