#pragma once

#include "kernels/buffer.h"
#include "kernels/cuda/context.h"

namespace berth::kernels::cuda {

// Reserves what chains of products keep, see stream/chain_sm90.cuh.
absl::Status ReserveChains(Context& context, Allocator& allocator);

}  // namespace berth::kernels::cuda
