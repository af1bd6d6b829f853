#include "gateway/admission/wait_estimate.h"

#include <algorithm>

#include "gateway/admission/waiting_queue.h"

namespace berth::admission {
namespace {

constexpr int kWindow = 100;
constexpr double kMinShare = 0.01;

}  // namespace

void WaitEstimate::Ended(int priority, absl::Duration held, int64_t tokens) {
  ended_ = std::min(ended_ + 1, kWindow);
  seconds_ += (absl::ToDoubleSeconds(held) - seconds_) / ended_;
  tokens_ += (static_cast<double>(tokens) - tokens_) / ended_;
  for (int i = 0; i < 3; ++i) shares_[i] += ((PriorityClass(priority) <= i) - shares_[i]) / kWindow;
}

absl::Duration WaitEstimate::Wait(int priority, int ahead, int running) const {
  const double share = std::max(shares_[PriorityClass(priority)], kMinShare);
  return absl::Seconds(seconds_ * (ahead + 1) / std::max(running, 1) / share);
}

absl::Duration WaitEstimate::Run(int64_t max_tokens) const {
  const double share = max_tokens > 0 && tokens_ > 0 ? std::min(1.0, static_cast<double>(max_tokens) / tokens_) : 1;
  return absl::Seconds(seconds_ * share);
}

}  // namespace berth::admission
