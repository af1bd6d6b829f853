#pragma once

#include "kernels/cuda/context.h"
#include "kernels/cuda/gated/gated_params.h"
#include "kernels/cuda/gated/gated_plan.h"

namespace berth::kernels::cuda::gated {

// Queues a product of activations T. Each type is instantiated in a file of its own, as it has all shapes of tiles.
template <typename T>
void LaunchGated(Context& context, const GatedParams& params, const GatedPlan& plan);

// The same for best tokens, of more tokens than a group's, in tiles of the largest width.
template <typename T>
void LaunchBest(Context& context, const GatedParams& params, const GatedPlan& plan);

}  // namespace berth::kernels::cuda::gated
