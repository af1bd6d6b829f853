#pragma once

#include "absl/time/time.h"

namespace berth::service {

// When a link sends what a step brought. Sending costs much the same whether it carries one step or ten, so it may take but a
// share of its thread's time: what goes beyond that for longer than `merge_time` waits and is merged, each time for at most
// `merge_time`. Seldom steps, however short, go at once. All times are monotonic. Thread: one owner.
class SendPace {
 public:
  SendPace(double share, absl::Duration merge_time) : share_(share), merge_time_(merge_time) {}

  // How long what is ready now has to wait; zero: not at all.
  absl::Duration Delay(absl::Duration now) const;
  void Sent(absl::Duration now);
  // What a step's frame took of the thread.
  void Took(absl::Duration cost) { cost_ += (cost - cost_) / 8; }

 private:
  const double share_;
  const absl::Duration merge_time_;
  absl::Duration cost_;  // running mean
  // What was sent has used up sending's share of the time until then.
  absl::Duration paid_until_ = -absl::InfiniteDuration();
};

}  // namespace berth::service
