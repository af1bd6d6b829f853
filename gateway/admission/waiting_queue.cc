#include "gateway/admission/waiting_queue.h"

#include <iterator>

#include "absl/time/time.h"
#include "base/check.h"
#include "proto/rpc/status.h"

namespace berth::admission {
absl::StatusOr<std::optional<uint64_t>> WaitingQueue::Push(uint64_t id, int priority) {
  BERTH_CHECK(!places_.contains(id)) << "request " << id << " already waits";
  const Place place(-priority, arrivals_++);
  std::optional<uint64_t> displaced;
  if (size() >= capacity_) {
    if (order_.empty() || std::prev(order_.end())->first.first <= place.first) return QueueFullError();
    displaced = std::prev(order_.end())->second;
    Remove(*displaced);
  }
  ++depths_[PriorityClass(priority)];
  order_.emplace(place, id);
  places_.emplace(id, place);
  return displaced;
}

void WaitingQueue::Remove(uint64_t id) {
  const auto found = places_.find(id);
  if (found == places_.end()) return;
  --depths_[PriorityClass(-found->second.first)];
  order_.erase(found->second);
  places_.erase(found);
}

std::vector<uint64_t> WaitingQueue::InOrder() const {
  std::vector<uint64_t> ids;
  ids.reserve(order_.size());
  for (const auto& [place, id] : order_) ids.push_back(id);
  return ids;
}

int WaitingQueue::CountAhead(int priority) const {
  return static_cast<int>(std::distance(order_.begin(), order_.upper_bound(Place(-priority, UINT64_MAX))));
}

int PriorityClass(int priority) { return priority < 0 ? 0 : priority == 0 ? 1 : 2; }

absl::Status QueueFullError() {
  return rpc::WithRetryAfter(rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "QUEUE_FULL",
                                                  "all workers are busy and the waiting queue is full"),
                             absl::Seconds(1));
}

}  // namespace berth::admission
