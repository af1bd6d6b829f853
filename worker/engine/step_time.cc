#include "worker/engine/step_time.h"

#include <algorithm>
#include <bit>
#include <cstdint>

namespace berth::engine {
namespace {

constexpr double kNewWeight = 0.2;

int Bucket(int tokens) { return std::bit_width(static_cast<uint32_t>(std::max(tokens, 1))) - 1; }

}  // namespace

void StepTime::Record(int tokens, absl::Duration time) {
  absl::Duration& average = averages_[Bucket(tokens)];
  average = average == absl::ZeroDuration() ? time : average * (1 - kNewWeight) + time * kNewWeight;
}

absl::Duration StepTime::Predict(int tokens) const {
  const int own = Bucket(tokens);
  for (int bucket = own; bucket >= 0; --bucket) {
    if (averages_[bucket] > absl::ZeroDuration()) return averages_[bucket] * (int64_t{1} << (own - bucket));
  }
  return absl::ZeroDuration();
}

absl::Duration StepTime::Budget(int tokens) const { return std::max(absl::Seconds(2), 8 * Predict(tokens)); }

}  // namespace berth::engine
