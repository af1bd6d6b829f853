#include "worker/engine/step_time.h"

#include <algorithm>
#include <bit>
#include <cstdint>

namespace berth::engine {
namespace {

constexpr double kNewWeight = 0.2;
constexpr double kLateShare = 0.95;  // what is thought of a step that was looked at too late
// A step counts as this many times as long as expected at most: one that a pause hit is no measure of the next, and what is
// expected too short costs nothing but a plan too early.
constexpr double kMostGrowth = 2;

// How long before its predecessor's end a step is planned: what waking up, planning and launching its first kernels takes, and
// a share of that step's time because predictions err, more so with prompts.
constexpr absl::Duration kPlanLead = absl::Milliseconds(1);
constexpr double kLeadShare = 0.1, kPromptLeadShare = 0.25;
constexpr absl::Duration kShort = absl::Milliseconds(4);

int Kind(const StepWork& work) { return work.pairs > 0 ? 1 : 0; }

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

absl::Duration StepTime::Budget(int tokens, absl::Duration modelled) const {
  const absl::Duration predicted = Predict(tokens);
  return std::max(absl::Seconds(2), 8 * (predicted > absl::ZeroDuration() ? predicted : modelled));
}

void StepPace::Record(const StepWork& work, absl::Duration time, bool exact) {
  if (!cost_.known()) return;
  double& average = measured_[Kind(work)];
  const double expected = average == 0 ? 1 : average;
  const double measured = std::min(absl::ToDoubleSeconds(time) / cost_.Seconds(work), kMostGrowth * expected);
  if (average == 0) {
    average = measured;
  } else if (exact) {
    average = average * (1 - kNewWeight) + measured * kNewWeight;
  } else {
    average = kLateShare * std::min(average, measured);
  }
}

absl::Duration StepPace::Expect(const StepWork& work) const {
  return cost_.known() ? absl::Seconds(measured_[Kind(work)] * cost_.Seconds(work)) : absl::ZeroDuration();
}

absl::Duration PlanDelay(const StepWork& running, absl::Duration time) {
  if (time <= kShort || running.kv_tokens == 0) return absl::ZeroDuration();
  return (1 - (running.pairs > 0 ? kPromptLeadShare : kLeadShare)) * time - kPlanLead;
}

}  // namespace berth::engine
