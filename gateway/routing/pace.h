#pragma once

#include <optional>

#include "absl/time/time.h"

namespace berth::routing {

// A worker's measurements count in windows of at least so long and so many, and for so long.
inline constexpr absl::Duration kPaceWindow = absl::Seconds(2);
inline constexpr int kPaceSamples = 5;
inline constexpr absl::Duration kPaceAge = absl::Seconds(10);

// How fast a worker is at its best: the shortest time of each window. Long prompts and full batches make most steps longer, on
// any worker; a slow machine makes all of them so. Thread: one owner.
class Pace {
 public:
  // True when that ends a window.
  bool Add(absl::Duration time, absl::Duration now);
  // Of the last window; nothing when it ended too long ago.
  std::optional<absl::Duration> best(absl::Duration now) const;

  // Windows in a row that were much worse than those of the peers.
  int slow_windows = 0;

 private:
  absl::Duration begin_, shortest_;
  int samples_ = 0;
  absl::Duration best_;
  absl::Duration ended_ = -absl::InfiniteDuration();
};

}  // namespace berth::routing
