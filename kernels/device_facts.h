#pragma once

#include <string>

#include "absl/status/status.h"

namespace berth::kernels {

// What decides whether the CUDA kernels run on a device.
struct DeviceFacts {
  int driver = 0;   // the newest CUDA version it knows, as 1000 × major + 10 × minor; 0: there is none
  int runtime = 0;  // the CUDA version that this program was built with
  std::string name;
  int compute_capability = 0;  // as 10 × major + minor
};

// FAILED_PRECONDITION: no driver, or one older than the runtime.
absl::Status CheckDriver(const DeviceFacts& facts);
// FAILED_PRECONDITION: `device`, which the message names, is too old.
absl::Status CheckComputeCapability(int device, const DeviceFacts& facts);

}  // namespace berth::kernels
