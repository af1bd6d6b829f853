#pragma once

#include <array>

#include "absl/time/time.h"

namespace berth::engine {

// How long a step of so many tokens is expected to take: a moving average per power of two of the token count.
class StepTime {
 public:
  void Record(int tokens, absl::Duration time);
  // From the nearest smaller size measured, scaled up to `tokens`; zero while nothing of that size or less was measured.
  absl::Duration Predict(int tokens) const;
  // When a step of this size counts as stalled: max(2 s, 8 × predicted).
  absl::Duration Budget(int tokens) const;

 private:
  static constexpr int kBuckets = 32;
  std::array<absl::Duration, kBuckets> averages_ = {};
};

}  // namespace berth::engine
