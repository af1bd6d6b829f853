#pragma once

#include "kernels/cuda/context.h"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

// MlpUp as its norm, into context.normed, and one kernel of Hopper's (gated_product_sm90.cuh). Sums along K in one order,
// whatever the number of tokens. False, with nothing queued, where it does not take the shape: other activations than SiLU, no
// gate, weights in several segments or of another dtype, an inner or outer size that is no multiple of 8, unaligned rows.
bool GatedMlpUp(Context& context, const MlpUpArgs& args);

// The best token of each row of a Head, into context.best, as its norm and the same kernel. False, with nothing queued, where
// more is asked for than HeadArgs::best_of, rows are few, or it does not take the shape: as above, and logits with a bias, a
// cap or a scale that turns them round.
bool BestOfHead(Context& context, const HeadArgs& args);

}  // namespace berth::kernels::cuda
