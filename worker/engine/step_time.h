#pragma once

#include <array>

#include "absl/time/time.h"
#include "worker/engine/step_cost.h"

namespace berth::engine {

// How long a step of so many tokens is expected to take: a moving average per power of two of the token count.
class StepTime {
 public:
  void Record(int tokens, absl::Duration time);
  // From the nearest smaller size measured, scaled up to `tokens`; zero while nothing of that size or less was measured.
  absl::Duration Predict(int tokens) const;
  // When a step of this size counts as stalled: max(2 s, 8 × predicted), `modelled` standing in while nothing is measured.
  absl::Duration Budget(int tokens, absl::Duration modelled) const;

 private:
  static constexpr int kBuckets = 32;
  std::array<absl::Duration, kBuckets> averages_ = {};
};

// When a step will end: the cost model's time, corrected by what the steps of its kind took, those with prompts and those
// without.
class StepPace {
 public:
  explicit StepPace(const StepCost& cost) : cost_(cost) {}
  // Not `exact`: the step ended some time before.
  void Record(const StepWork& work, absl::Duration time, bool exact);
  // Zero while no step of its kind was measured, or when the cost is unknown.
  absl::Duration Expect(const StepWork& work) const;

 private:
  const StepCost cost_;
  std::array<double, 2> measured_ = {};  // of each kind, a moving average of measured by modelled time
};

// How long after the beginning of a step that takes `time` the next one is planned: as late as may be, so that it has all that
// comes in meanwhile; at once after steps that are short or decode nothing.
absl::Duration PlanDelay(const StepWork& running, absl::Duration time);

}  // namespace berth::engine
