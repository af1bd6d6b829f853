#include "kernels/cuda/gated/gated_plan.h"

#include <algorithm>

namespace berth::kernels::cuda::gated {
namespace {

// Of the second-level cache, for each SM while all read.
constexpr int64_t kBytesPerCycle = 36;

int64_t Tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// Blocks that share a weight have as many groups of tokens each, and as even as may be in all units.
GatedPlan Cut(int64_t tokens, int64_t inter, GatedPlan plan) {
  const bool weight = plan.shared == Shared::kWeight;
  const int64_t groups = Tiles(tokens, kGroupTokens * (weight ? kPair : 1));  // of a block, in all units
  plan.token_units = Tiles(groups, plan.groups);
  plan.smaller_units = weight ? plan.token_units * plan.groups - groups : 0;
  plan.width_units = Tiles(Tiles(2 * inter, plan.width), weight ? 1 : kPair);
  return plan;
}

// Of a unit whose tiles have so many groups.
int64_t Cycles(const GatedPlan& plan, int64_t groups) {
  const bool weight = plan.shared == Shared::kWeight;
  const int64_t token_bytes = groups * kGroupTokens * kStep * 2 / (weight ? 1 : kPair);
  const int64_t weight_bytes = int64_t{plan.width} * kStep * 2 / (weight ? kPair : 1);
  const int64_t products = groups * plan.width * 2;  // 4,096 operations a cycle
  return std::max(products, (token_bytes + weight_bytes) / kBytesPerCycle);
}

// Of all waves, where a cluster takes its turn at smaller units.
int64_t AllCycles(const GatedPlan& plan, int multiprocessors) {
  const int64_t waves = Tiles(plan.token_units * plan.width_units, multiprocessors / kPair);
  const int64_t smaller = waves * plan.smaller_units / plan.token_units;
  return (waves - smaller) * Cycles(plan, plan.groups) + smaller * Cycles(plan, plan.groups - 1);
}

}  // namespace

GatedPlan PlanGated(int64_t tokens, int64_t inter, int multiprocessors, int width) {
  GatedPlan best;
  int64_t least = 0;
  const bool few = tokens <= kGroupTokens;
  const int fewest_groups = few ? 1 : 2, most_groups = few ? 1 : kMaxGroups;
  for (int groups = most_groups; groups >= fewest_groups; --groups) {
    for (int candidate = kMaxWidth; candidate >= MinWidth(groups); candidate -= kWidthStep) {
      if (width != 0 && candidate != width) continue;
      for (const Shared shared : {Shared::kWeight, Shared::kTokens}) {
        const GatedPlan plan = Cut(tokens, inter, {candidate, groups, shared});
        // Where all units would be smaller, a plan with fewer groups says so.
        if (shared == Shared::kWeight && (few || plan.smaller_units >= plan.token_units)) continue;
        const int64_t cycles = AllCycles(plan, multiprocessors);
        if (least != 0 && cycles * 32 > least * 31) continue;
        least = cycles;
        best = plan;
      }
    }
  }
  return best;
}

}  // namespace berth::kernels::cuda::gated
