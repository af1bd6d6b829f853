#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace berth::admission {

// Requests that wait in the gateway for room at a worker, so that no engine holds a backlog of low priority: higher priority
// first, within a priority in order of arrival. Bounded: when full, a newcomer displaces the last request if that one has a
// lower priority, else it is refused. Thread: one owner.
class WaitingQueue {
 public:
  explicit WaitingQueue(int capacity) : capacity_(capacity) {}

  // Adds `id`, which is not in the queue. Returns the request that was displaced, or RESOURCE_EXHAUSTED "QUEUE_FULL" with
  // RetryInfo.
  absl::StatusOr<std::optional<uint64_t>> Push(uint64_t id, int priority);
  // No effect on an id that does not wait.
  void Remove(uint64_t id);
  // The requests, first to be served first.
  std::vector<uint64_t> InOrder() const;

  int size() const { return static_cast<int>(order_.size()); }
  // Requests of negative, zero and positive priority.
  const std::array<int, 3>& depths() const { return depths_; }
  // How many would be served before a newcomer of this priority.
  int CountAhead(int priority) const;
  // Requests of higher or equal priority, which would be served before a newcomer.
  bool HasAhead(int priority) const { return !order_.empty() && order_.begin()->first.first <= -priority; }

 private:
  // (negated priority, arrival).
  using Place = std::pair<int, uint64_t>;

  const int capacity_;
  uint64_t arrivals_ = 0;
  std::array<int, 3> depths_ = {};
  std::map<Place, uint64_t> order_;
  absl::flat_hash_map<uint64_t, Place> places_;
};

// 0 of a negative priority, 1 of zero, 2 of a positive one.
int PriorityClass(int priority);

// The refusal of a request for want of room, with the delay after which to try again.
absl::Status QueueFullError();

}  // namespace berth::admission
