#pragma once

#include <optional>

#include "kernels/cuda/blas_plans.h"
#include "kernels/cuda/context.h"

namespace berth::kernels::cuda {

// Numbers of tokens that share a plan, by the most of them.
int64_t PlanTokens(int64_t tokens);

// The plan of a shape by the `choice`-th of cuBLASLt's proposals, which one version of the library makes in one order; without
// a choice by the tuned one (kernels/tuned_products.h) or else the first. Nothing if there are fewer.
std::optional<BlasPlan> MakeBlasPlan(Context& context, const BlasPlans::key_type& shape, std::optional<int> choice);

}  // namespace berth::kernels::cuda
