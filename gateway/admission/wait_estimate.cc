#include "gateway/admission/wait_estimate.h"

#include <algorithm>

namespace berth::admission {
namespace {

constexpr int kWindow = 100;

}  // namespace

void WaitEstimate::Ended(absl::Duration held, int64_t tokens) {
  ended_ = std::min(ended_ + 1, kWindow);
  seconds_ += (absl::ToDoubleSeconds(held) - seconds_) / ended_;
  tokens_ += (static_cast<double>(tokens) - tokens_) / ended_;
}

absl::Duration WaitEstimate::Wait(int ahead, int running) const {
  return absl::Seconds(seconds_ * (ahead + 1) / std::max(running, 1));
}

absl::Duration WaitEstimate::Run(int64_t max_tokens) const {
  const double share = max_tokens > 0 && tokens_ > 0 ? std::min(1.0, static_cast<double>(max_tokens) / tokens_) : 1;
  return absl::Seconds(seconds_ * share);
}

}  // namespace berth::admission
