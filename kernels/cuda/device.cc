#include "kernels/cuda/device.h"

#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"

namespace berth::kernels {
namespace {

constexpr int kOldestComputeCapability = 80;

std::string VersionText(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

absl::Status Unusable(int device, cudaError_t error) {
  return absl::FailedPreconditionError(absl::StrCat("device ", device, ": ", cudaGetErrorString(error)));
}

}  // namespace

absl::Status CheckCudaDevice(int device) {
  int driver = 0, runtime = 0, count = 0;
  cudaRuntimeGetVersion(&runtime);
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return absl::FailedPreconditionError("no CUDA device can be used: no NVIDIA driver is installed");
  }
  // Drivers run what was built for another minor version of theirs.
  if (driver / 1000 < runtime / 1000) {
    return absl::FailedPreconditionError(absl::StrCat("the NVIDIA driver is for CUDA ", VersionText(driver),
                                                      ", want a driver for CUDA ", runtime / 1000, ".0 or later"));
  }
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return absl::FailedPreconditionError(absl::StrCat("no CUDA device can be used: ", cudaGetErrorString(error)));
  }
  if (device < 0 || device >= count) {
    return absl::FailedPreconditionError(absl::StrCat("device ", device, " does not exist: there are ", count));
  }
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess) {
    return Unusable(device, error);
  }
  if (properties.major * 10 + properties.minor < kOldestComputeCapability) {
    return absl::FailedPreconditionError(absl::StrCat("device ", device, ", ", properties.name, ", has compute capability ",
                                                      properties.major, ".", properties.minor, ", want 8.0 or later"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CudaMemory> GetCudaMemory(int device) {
  CudaMemory memory;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaMemGetInfo(&memory.free, &memory.total);
  if (error != cudaSuccess) return Unusable(device, error);
  return memory;
}

}  // namespace berth::kernels
