#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "gateway/relay/timers.h"

namespace berth::relay {

// Cancels of requests that this gateway does not run, while workers are asked for them. Thread: the relay's.
class PendingCancels {
 public:
  explicit PendingCancels(Timers& timers) : timers_(timers) {}
  // Nobody hears of what is pending.
  ~PendingCancels();

  // `workers` were asked under `id`. `done` hears true as soon as one has found the request; false when none has, or some are
  // silent for two seconds.
  void Add(uint64_t id, absl::flat_hash_set<int> workers, absl::AnyInvocable<void(bool found)> done);
  void Answer(int worker, uint64_t id, bool found);
  // The worker is gone, or all of them are.
  void Lose(int worker);
  void LoseAll();

 private:
  struct Cancel {
    absl::flat_hash_set<int> workers;  // that are still to answer
    absl::AnyInvocable<void(bool)> done;
    Timers::Id timer;
  };

  void Finish(uint64_t id, bool found);

  Timers& timers_;
  absl::flat_hash_map<uint64_t, Cancel> cancels_;
};

}  // namespace berth::relay
