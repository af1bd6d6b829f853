#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace berth::service {

struct LinkOptions {
  absl::Duration heartbeat = absl::Milliseconds(100);
  // Credit: a link with older or more unacknowledged events sends nothing.
  absl::Duration unacknowledged_time = absl::Milliseconds(250);
  int64_t unacknowledged_bytes = 1 << 20;
  int64_t frame_bytes = 256 << 10;
  // Of SendPace.
  double merge_share = 0.3;
  absl::Duration merge_time = absl::Milliseconds(5);
  size_t max_prompt_bytes = 16 << 20;
  // Fault: every so many-th frame with events is lost on its way. 0: none.
  int drop_write = 0;
};

}  // namespace berth::service
