#include "gateway/relay/retry_budget.h"

namespace berth::relay {
namespace {

constexpr int kFreePerSecond = 10;
constexpr int kRequestsPerRetry = 5;

}  // namespace

bool RetryBudget::Take(absl::Duration now) {
  Second& current = Slot(now);
  const int64_t oldest = current.number - static_cast<int64_t>(seconds_.size()) + 1;
  int requests = 0, retries = 0;
  for (const Second& second : seconds_) {
    if (second.number < oldest) continue;
    requests += second.requests;
    retries += second.retries;
  }
  if (retries >= kFreePerSecond * static_cast<int>(seconds_.size()) + requests / kRequestsPerRetry) return false;
  ++current.retries;
  return true;
}

RetryBudget::Second& RetryBudget::Slot(absl::Duration now) {
  const int64_t number = absl::ToInt64Seconds(now);
  Second& slot = seconds_[number % seconds_.size()];
  if (slot.number != number) slot = {.number = number};
  return slot;
}

}  // namespace berth::relay
