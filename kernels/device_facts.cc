#include "kernels/device_facts.h"

#include "absl/strings/str_cat.h"

namespace berth::kernels {
namespace {

constexpr int kOldestComputeCapability = 80;

std::string VersionText(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

}  // namespace

absl::Status CheckDriver(const DeviceFacts& facts) {
  if (facts.driver == 0) {
    return absl::FailedPreconditionError("no CUDA device can be used: no NVIDIA driver is installed");
  }
  // Drivers run what was built for another minor version of theirs.
  if (facts.driver / 1000 >= facts.runtime / 1000) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("the NVIDIA driver is for CUDA ", VersionText(facts.driver),
                                                    ", want a driver for CUDA ", facts.runtime / 1000, ".0 or later"));
}

absl::Status CheckComputeCapability(int device, const DeviceFacts& facts) {
  if (facts.compute_capability >= kOldestComputeCapability) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("device ", device, ", ", facts.name, ", has compute capability ",
                                                    facts.compute_capability / 10, ".", facts.compute_capability % 10,
                                                    ", want 8.0 or later"));
}

}  // namespace berth::kernels
