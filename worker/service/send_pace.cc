#include "worker/service/send_pace.h"

#include <algorithm>

namespace berth::service {

absl::Duration SendPace::Delay(absl::Duration now) const {
  return std::max(paid_until_ - now - merge_time_, absl::ZeroDuration());
}

void SendPace::Sent(absl::Duration now) {
  paid_until_ = std::min(std::max(paid_until_, now) + cost_ / share_, now + 2 * merge_time_);
}

}  // namespace berth::service
