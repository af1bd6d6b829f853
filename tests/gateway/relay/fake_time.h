#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include "base/clock.h"
#include "gateway/relay/timers.h"

namespace berth::relay {

// A clock and its timers, moved by the test.
class FakeTime : public base::Clock, public Timers {
 public:
  absl::Time Now() const override { return absl::FromUnixSeconds(1'700'000'000) + now_; }
  absl::Duration Monotonic() const override { return now_; }

  Id After(absl::Duration delay, absl::AnyInvocable<void()> function) override {
    const Id id(absl::ToInt64Nanoseconds(now_ + delay), ++last_);
    timers_.emplace(id, std::move(function));
    return id;
  }
  void Cancel(Id id) override { timers_.erase(id); }

  // Runs what becomes due on the way.
  void Advance(absl::Duration by) {
    const absl::Duration end = now_ + by;
    while (!timers_.empty() && absl::Nanoseconds(timers_.begin()->first.first) <= end) {
      now_ = std::max(now_, absl::Nanoseconds(timers_.begin()->first.first));
      auto timer = timers_.extract(timers_.begin());
      timer.mapped()();
    }
    now_ = end;
  }
  // The process stood still: what is due runs late.
  void Stall(absl::Duration by) { now_ += by; }
  size_t timers() const { return timers_.size(); }

 private:
  absl::Duration now_ = absl::Seconds(1000);
  uint64_t last_ = 0;
  std::map<Id, absl::AnyInvocable<void()>> timers_;
};

}  // namespace berth::relay
