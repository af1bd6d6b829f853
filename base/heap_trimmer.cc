#include "base/heap_trimmer.h"

#include <malloc.h>

#include <algorithm>
#include <utility>

namespace berth::base {
namespace {

// Fewer streams are not worth it.
constexpr size_t kMinEnded = 256;
// Others may be about to end too.
constexpr absl::Duration kDelay = absl::Seconds(5);

}  // namespace

HeapTrimmer::HeapTrimmer(After after, std::function<void()> trim) : after_(std::move(after)), trim_(std::move(trim)) {}

void HeapTrimmer::SetStreams(size_t streams) {
  streams_ = streams;
  most_ = std::max(most_, streams);
  if (coming_ != nullptr || most_ - streams < std::max(kMinEnded, most_ / 2)) return;
  coming_ = std::make_shared<bool>();
  after_(kDelay, [this, coming = std::weak_ptr<void>(coming_)] {
    if (coming.expired()) return;
    coming_.reset();
    most_ = streams_;
    trim_();
  });
}

void TrimHeap() { malloc_trim(0); }

}  // namespace berth::base
