#pragma once

#include "kernels/cuda/context.h"
#include "kernels/cuda/stream/stream.h"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

// Products of up to 192 tokens, some of up to 256, whose K is cut among the blocks of a cluster (split_product_sm90.cuh).
// False, with nothing queued, where they do not take the shape: so few tokens that a chain is faster, weights in several
// segments or of another dtype than activations, unaligned rows, too few rows or too many for one tile per cluster. Never where
// batches must not change bits.

// `out` has the activations' dtype and rows of a multiple of 8.
bool SplitLinear(Context& context, const Tensor& in, const LinearWeight& weight, const LinearFinish& finish, const Tensor& out);

// The same of up to 256 tokens, which blocks of a cluster share out, where K is long: shorter products are not worth that.
bool SplitLinearInParts(Context& context, const Tensor& in, const LinearWeight& weight, const LinearFinish& finish,
                        const Tensor& out);

// Not with norms of q or k, nor where a head is not rotated or in part. Takes context.normed.
bool SplitAttnIn(Context& context, const AttnInArgs& args);

}  // namespace berth::kernels::cuda
