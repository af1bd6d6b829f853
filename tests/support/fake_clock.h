#pragma once

#include "base/clock.h"
#include "base/mutex.h"

namespace berth::testing {

// Time that moves only when a test says so. Thread-safe.
class FakeClock : public base::Clock {
 public:
  absl::Time Now() const override {
    base::MutexLock lock(mutex_);
    return now_;
  }
  absl::Duration Monotonic() const override { return Now() - absl::UnixEpoch(); }
  void Advance(absl::Duration duration) {
    base::MutexLock lock(mutex_);
    now_ += duration;
  }

 private:
  mutable base::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1700000000);
};

}  // namespace berth::testing
