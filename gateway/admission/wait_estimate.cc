#include "gateway/admission/wait_estimate.h"

#include <algorithm>
#include <cmath>

#include "gateway/admission/waiting_queue.h"

namespace berth::admission {
namespace {

constexpr int kWindow = 100;
constexpr double kMinShare = 0.01;
// Under overload every request is let in at its latest moment: with the mean alone half of them would end too late.
constexpr double kDeviations = 2.5;
constexpr absl::Duration kHalfLife = absl::Seconds(10);  // of a wait's excess

}  // namespace

void WaitEstimate::Means::Add(double more_seconds, double more_tokens) {
  ended = std::min(ended + 1, kWindow);
  if (ended > 1) deviation += (std::abs(more_seconds - seconds) - deviation) / ended;
  seconds += (more_seconds - seconds) / ended;
  tokens += (more_tokens - tokens) / ended;
}

double WaitEstimate::Means::Most() const { return seconds + kDeviations * deviation; }

void WaitEstimate::Ended(int priority, absl::Duration held, int64_t tokens) {
  all_.Add(absl::ToDoubleSeconds(held), static_cast<double>(tokens));
  classes_[PriorityClass(priority)].Add(absl::ToDoubleSeconds(held), static_cast<double>(tokens));
  for (int i = 0; i < 3; ++i) shares_[i] += ((PriorityClass(priority) <= i) - shares_[i]) / kWindow;
}

absl::Duration WaitEstimate::Wait(int priority, int ahead, int running) const {
  const double share = std::max(shares_[PriorityClass(priority)], kMinShare);
  return absl::Seconds(all_.seconds * (ahead + 1) / std::max(running, 1) / share);
}

void WaitEstimate::Waited(int priority, absl::Duration expected, absl::Duration waited, absl::Duration now) {
  excess_[PriorityClass(priority)].Add(absl::ToDoubleSeconds(waited - expected));
  last_waited_[PriorityClass(priority)] = now;
}

absl::Duration WaitEstimate::Excess(int priority, absl::Duration now) const {
  const double faded = std::exp2(-absl::FDivDuration(now - last_waited_[PriorityClass(priority)], kHalfLife));
  return absl::Seconds(std::max(excess_[PriorityClass(priority)].Most(), 0.0) * faded);
}

absl::Duration WaitEstimate::Run(int priority, int64_t max_tokens) const {
  const Means& means = classes_[PriorityClass(priority)];
  const double share = max_tokens > 0 && means.tokens > 0 ? std::min(1.0, static_cast<double>(max_tokens) / means.tokens) : 1;
  return absl::Seconds(means.Most() * share);
}

}  // namespace berth::admission
