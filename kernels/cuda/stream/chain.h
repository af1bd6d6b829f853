#pragma once

#include "kernels/buffer.h"
#include "kernels/cuda/context.h"

namespace berth::kernels::cuda {

// Reserves what chains of products keep, see stream/chain_sm90.cuh. `width`: outputs of the widest product that has a
// successor.
absl::Status ReserveChains(Context& context, int64_t width, Allocator& allocator);

}  // namespace berth::kernels::cuda
