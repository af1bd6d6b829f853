#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace berth::base {

// Gives the heap back to the system when most of the streams that filled it are over: the allocator keeps free pages that lie
// below anything in use, and something always is. Trimming stops whoever allocates for some 0.2 ms per MiB that is given back,
// so it is done seldom and for a lot only. Thread: one owner.
class HeapTrimmer {
 public:
  // Runs a function later, on the owner's thread. It may be dropped, and may outlive the trimmer.
  using After = std::function<void(absl::Duration delay, absl::AnyInvocable<void()> function)>;

  // `trim` runs soon after most streams have ended.
  HeapTrimmer(After after, std::function<void()> trim);

  // To be told whenever a stream began or ended.
  void SetStreams(size_t streams);

 private:
  const After after_;
  const std::function<void()> trim_;
  size_t streams_ = 0;
  // Since the last trim.
  size_t most_ = 0;
  // There while one is on its way.
  std::shared_ptr<void> coming_;
};

// malloc_trim.
void TrimHeap();

}  // namespace berth::base
