#include "gateway/relay/heap_trimmer.h"

#include <algorithm>
#include <utility>

namespace berth::relay {
namespace {

// Fewer streams are not worth it.
constexpr size_t kMinEnded = 256;
// Others may be about to end too.
constexpr absl::Duration kDelay = absl::Seconds(5);

}  // namespace

HeapTrimmer::HeapTrimmer(Timers& timers, std::function<void()> trim) : timers_(timers), trim_(std::move(trim)) {}

HeapTrimmer::~HeapTrimmer() {
  if (timer_.has_value()) timers_.Cancel(*timer_);
}

void HeapTrimmer::SetStreams(size_t streams) {
  streams_ = streams;
  most_ = std::max(most_, streams);
  if (timer_.has_value() || most_ - streams < std::max(kMinEnded, most_ / 2)) return;
  timer_ = timers_.After(kDelay, [this] { Trim(); });
}

void HeapTrimmer::Trim() {
  timer_.reset();
  most_ = streams_;
  trim_();
}

}  // namespace berth::relay
