#include "kernels/cuda/gated/gated_plan.h"

#include <algorithm>

namespace berth::kernels::cuda::gated {
namespace {

// Of the second-level cache, for each SM while all read.
constexpr int64_t kBytesPerCycle = 36;

int64_t Tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

GatedPlan Cut(int64_t tokens, int64_t inter, GatedPlan plan) {
  const bool weight = plan.shared == Shared::kWeight;
  plan.token_units = Tiles(Tiles(tokens, plan.groups * kGroupTokens), weight ? kPair : 1);
  plan.width_units = Tiles(Tiles(2 * inter, plan.width), weight ? 1 : kPair);
  return plan;
}

int64_t Cycles(const GatedPlan& plan, int multiprocessors) {
  const bool weight = plan.shared == Shared::kWeight;
  const int64_t waves = Tiles(plan.token_units * plan.width_units, multiprocessors / kPair);
  const int64_t token_bytes = int64_t{plan.groups} * kGroupTokens * kStep * 2 / (weight ? 1 : kPair);
  const int64_t weight_bytes = int64_t{plan.width} * kStep * 2 / (weight ? kPair : 1);
  const int64_t products = int64_t{plan.groups} * plan.width * 2;  // 4,096 operations a cycle
  return waves * std::max(products, (token_bytes + weight_bytes) / kBytesPerCycle);
}

}  // namespace

GatedPlan PlanGated(int64_t tokens, int64_t inter, int multiprocessors, int width) {
  GatedPlan best;
  int64_t least = 0;
  const bool few = tokens <= kGroupTokens;
  const int fewest_groups = few ? 1 : 2, most_groups = few ? 1 : kMaxGroups;
  for (int groups = most_groups; groups >= fewest_groups; --groups) {
    const bool even = Tiles(tokens, groups * kGroupTokens) % kPair == 0;
    for (int candidate = kMaxWidth; candidate >= MinWidth(groups); candidate -= kWidthStep) {
      if (width != 0 && candidate != width) continue;
      const GatedPlan plan = Cut(tokens, inter, {candidate, groups, even ? Shared::kWeight : Shared::kTokens});
      const int64_t cycles = Cycles(plan, multiprocessors);
      if (least != 0 && cycles >= least) continue;
      least = cycles;
      best = plan;
    }
  }
  return best;
}

}  // namespace berth::kernels::cuda::gated
