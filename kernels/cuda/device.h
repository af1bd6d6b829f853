#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace berth::kernels {

// Whether the kernels run on the device. FAILED_PRECONDITION says why not: no device, no driver, a driver older than the
// runtime that this program was built with, a device that is too old.
absl::Status CheckCudaDevice(int device);

struct CudaMemory {
  size_t free = 0, total = 0;
};
absl::StatusOr<CudaMemory> GetCudaMemory(int device);

// By the device's highest clocks; 0: unknown.
struct CudaPeak {
  double memory_bytes = 0;  // a second
  double flops = 0;         // a second, of dense products of 16-bit numbers
};
absl::StatusOr<CudaPeak> GetCudaPeak(int device);

}  // namespace berth::kernels
