#include "gateway/relay/pending_cancels.h"

#include <utility>
#include <vector>

namespace berth::relay {
namespace {

constexpr absl::Duration kAnswerTimeout = absl::Seconds(2);

}  // namespace

PendingCancels::~PendingCancels() {
  for (const auto& [id, cancel] : cancels_) timers_.Cancel(cancel.timer);
}

void PendingCancels::Add(uint64_t id, absl::flat_hash_set<int> workers, absl::AnyInvocable<void(bool found)> done) {
  if (workers.empty()) return done(false);
  const Timers::Id timer = timers_.After(kAnswerTimeout, [this, id] { Finish(id, false); });
  cancels_.emplace(id, Cancel{.workers = std::move(workers), .done = std::move(done), .timer = timer});
}

void PendingCancels::Answer(int worker, uint64_t id, bool found) {
  const auto cancel = cancels_.find(id);
  if (cancel == cancels_.end() || cancel->second.workers.erase(worker) == 0) return;
  if (found || cancel->second.workers.empty()) Finish(id, found);
}

void PendingCancels::Lose(int worker) {
  std::vector<uint64_t> ids;
  for (const auto& [id, cancel] : cancels_) ids.push_back(id);
  for (uint64_t id : ids) Answer(worker, id, false);
}

void PendingCancels::LoseAll() {
  while (!cancels_.empty()) Finish(cancels_.begin()->first, false);
}

void PendingCancels::Finish(uint64_t id, bool found) {
  auto cancel = cancels_.extract(id);
  timers_.Cancel(cancel.mapped().timer);
  cancel.mapped().done(found);
}

}  // namespace berth::relay
