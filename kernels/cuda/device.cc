#include "kernels/cuda/device.h"

#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/device_facts.h"

namespace berth::kernels {
namespace {

// Dense, 16-bit, of one multiprocessor.
double FlopsPerClock(int compute_capability) {
  switch (compute_capability) {
    case 80:
      return 2048;
    case 90:
      return 4096;
    case 100:
    case 103:
      return 8192;
    default:
      return 1024;
  }
}

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

absl::StatusOr<CudaPeak> GetCudaPeak(int device) {
  cudaError_t error = cudaSuccess;
  const auto get = [&](cudaDeviceAttr attribute) {
    int value = 0;
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&value, attribute, device);
    return value;
  };
  const int capability = 10 * get(cudaDevAttrComputeCapabilityMajor) + get(cudaDevAttrComputeCapabilityMinor);
  const double bus_bytes = get(cudaDevAttrGlobalMemoryBusWidth) / 8.0, memory_hertz = 1e3 * get(cudaDevAttrMemoryClockRate);
  const double processors = get(cudaDevAttrMultiProcessorCount), hertz = 1e3 * get(cudaDevAttrClockRate);
  if (error != cudaSuccess) return Unusable(device, error);
  // Memory transfers at both edges of its clock.
  return CudaPeak{.memory_bytes = 2 * memory_hertz * bus_bytes, .flops = hertz * processors * FlopsPerClock(capability)};
}

}  // namespace berth::kernels
