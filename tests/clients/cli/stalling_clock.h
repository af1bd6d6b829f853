#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "base/clock.h"

namespace berth::cli {

constexpr double kStall = 10;  // seconds

// Time as a program sees it that is stopped again and again: kStall pass between any two looks. Thread-safe.
class StallingClock : public base::Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + Monotonic(); }
  absl::Duration Monotonic() const override { return absl::Seconds(kStall * static_cast<double>(++looks_)); }

 private:
  mutable std::atomic<int64_t> looks_ = 0;
};

}  // namespace berth::cli
