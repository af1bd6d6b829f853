#pragma once

#include <array>
#include <cstdint>

#include "absl/time/time.h"

namespace berth::relay {

// Bounds retries to a share of the traffic, so that they cannot become a storm: of the last ten seconds, ten a second and a
// fifth of the requests. Thread: one owner.
class RetryBudget {
 public:
  // A request arrived, which was not a retry. `now` is base::Clock::Monotonic.
  void CountRequest(absl::Duration now) { ++Slot(now).requests; }
  // Whether one more retry may be made; it is counted then.
  bool Take(absl::Duration now);

 private:
  struct Second {
    int64_t number = -1;
    int requests = 0, retries = 0;
  };

  Second& Slot(absl::Duration now);

  std::array<Second, 10> seconds_;
};

}  // namespace berth::relay
