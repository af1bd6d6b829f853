#include "gateway/routing/pace.h"

#include <algorithm>

namespace berth::routing {

bool Pace::Add(absl::Duration time, absl::Duration now) {
  if (samples_ == 0) begin_ = now;
  shortest_ = samples_ == 0 ? time : std::min(shortest_, time);
  if (++samples_ < kPaceSamples || now - begin_ < kPaceWindow) return false;
  samples_ = 0;
  best_ = shortest_;
  ended_ = now;
  return true;
}

std::optional<absl::Duration> Pace::best(absl::Duration now) const {
  return now - ended_ <= kPaceAge ? std::make_optional(best_) : std::nullopt;
}

}  // namespace berth::routing
