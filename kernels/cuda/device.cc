#include "kernels/cuda/device.h"

#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/device_facts.h"

namespace berth::kernels {
namespace {

absl::Status Unusable(int device, cudaError_t error) {
  return absl::FailedPreconditionError(absl::StrCat("device ", device, ": ", cudaGetErrorString(error)));
}

}  // namespace

absl::Status CheckCudaDevice(int device) {
  DeviceFacts facts;
  int count = 0;
  cudaRuntimeGetVersion(&facts.runtime);
  if (cudaDriverGetVersion(&facts.driver) != cudaSuccess) facts.driver = 0;
  BERTH_RETURN_IF_ERROR(CheckDriver(facts));
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
  facts.name = properties.name;
  facts.compute_capability = 10 * properties.major + properties.minor;
  return CheckComputeCapability(device, facts);
}

absl::StatusOr<CudaMemory> GetCudaMemory(int device) {
  CudaMemory memory;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaMemGetInfo(&memory.free, &memory.total);
  if (error != cudaSuccess) return Unusable(device, error);
  return memory;
}

}  // namespace berth::kernels
