#pragma once

#include "absl/time/time.h"

namespace berth::base {

// Where time comes from, so that tests own it. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall time, for what people and other processes read.
  virtual absl::Time Now() const = 0;
  // Time since an arbitrary start that never goes back, for intervals and timeouts.
  virtual absl::Duration Monotonic() const = 0;
};

// The machine's clock. The object lives as long as the process.
const Clock& SystemClock();

}  // namespace berth::base
