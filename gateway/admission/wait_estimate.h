#pragma once

#include <array>
#include <cstdint>

#include "absl/time/time.h"

namespace berth::admission {

// How long a request would wait and run, from how long those before it did: what cannot be done in time is better refused at
// once than begun. Averages over about the last hundred requests. Thread: one owner.
class WaitEstimate {
 public:
  // A request of this priority has left its worker, or was cut off, after `held`, with so many output tokens.
  void Ended(int priority, absl::Duration held, int64_t tokens);

  // Until a place is free for a request of this priority behind `ahead` others, while `running` hold one: what ends makes room,
  // of which those of a higher priority that come meanwhile take as large a share as they did of late. Zero before the first
  // has ended.
  absl::Duration Wait(int priority, int ahead, int running) const;
  // A request of this priority, for which Wait said `expected`, waited so long before it was begun or given up.
  void Waited(int priority, absl::Duration expected, absl::Duration waited, absl::Duration now);
  // What all but few wait longer than expected: places come in bursts. It fades while nobody waits, so that a bad hour does not
  // keep everybody from waiting.
  absl::Duration Excess(int priority, absl::Duration now) const;
  // Of a request with at most `max_tokens` of output, and all but few need no longer; 0: no limit. Workers too serve a higher
  // priority first.
  absl::Duration Run(int priority, int64_t max_tokens) const;

 private:
  struct Means {
    int ended = 0;
    double seconds = 0, tokens = 0;
    double deviation = 0;  // of the seconds, mean

    void Add(double more_seconds, double more_tokens = 0);
    double Most() const;  // seconds of nearly all
  };

  Means all_;
  std::array<Means, 3> classes_;  // by PriorityClass
  std::array<Means, 3> excess_;   // of waits over what was expected, the same
  std::array<absl::Duration, 3> last_waited_ = {};
  // Of what ended, by PriorityClass: of this class or a lower one.
  std::array<double, 3> shares_ = {1, 1, 1};
};

}  // namespace berth::admission
