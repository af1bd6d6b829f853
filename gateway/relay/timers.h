#pragma once

#include <cstdint>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace berth::relay {

// One-shot timers of the thread that owns the relay, so that tests own time.
class Timers {
 public:
  using Id = std::pair<int64_t, uint64_t>;

  virtual ~Timers() = default;
  virtual Id After(absl::Duration delay, absl::AnyInvocable<void()> function) = 0;
  // No effect on a timer that ran.
  virtual void Cancel(Id id) = 0;
};

}  // namespace berth::relay
