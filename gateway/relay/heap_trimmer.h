#pragma once

#include <cstddef>
#include <functional>
#include <optional>

#include "gateway/relay/timers.h"

namespace berth::relay {

// Gives the heap back to the system when most of the streams that filled it are over: the allocator keeps free pages that lie
// below anything in use, and something always is. Trimming stops whoever allocates for some 0.2 ms per MiB that is given back,
// so it is done seldom and for a lot only. Thread: one owner.
class HeapTrimmer {
 public:
  // `trim` runs from a timer, soon after most streams have ended.
  HeapTrimmer(Timers& timers, std::function<void()> trim);
  ~HeapTrimmer();

  // To be told whenever a stream began or ended.
  void SetStreams(size_t streams);

 private:
  void Trim();

  Timers& timers_;
  const std::function<void()> trim_;
  size_t streams_ = 0;
  // Since the last trim.
  size_t most_ = 0;
  std::optional<Timers::Id> timer_;
};

}  // namespace berth::relay
