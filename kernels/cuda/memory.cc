#include <cuda_runtime.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_ops.h"

namespace berth::kernels {
namespace {

class CudaAllocator : public Allocator {
 public:
  explicit CudaAllocator(int device) : device_(device) {}

  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    void* data = nullptr;
    cudaError_t error = cudaSetDevice(device_);
    if (error == cudaSuccess) error = cudaMalloc(&data, bytes == 0 ? 1 : bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      size_t free = 0, total = 0;
      cudaMemGetInfo(&free, &total);
      return absl::ResourceExhaustedError(
          absl::StrCat("device ", device_, " has no ", bytes, " bytes: ", free, " of ", total, " are free"));
    }
    if (error == cudaSuccess) error = cudaMemset(data, 0, bytes);
    // The queues of other streams do not wait for it.
    if (error == cudaSuccess) error = cudaStreamSynchronize(nullptr);
    if (error != cudaSuccess) {
      return absl::UnavailableError(absl::StrCat("device ", device_, ": ", cudaGetErrorString(error)));
    }
    return Buffer(data, bytes, [](void* pointer) { cudaFree(pointer); });
  }

 private:
  const int device_;
};

class PinnedAllocator : public Allocator {
 public:
  explicit PinnedAllocator(int device) : device_(device) {}

  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    void* data = nullptr;
    cudaError_t error = cudaSetDevice(device_);
    if (error == cudaSuccess) error = cudaHostAlloc(&data, bytes == 0 ? 1 : bytes, cudaHostAllocDefault);
    if (error != cudaSuccess) {
      cudaGetLastError();
      return absl::ResourceExhaustedError(absl::StrCat("no ", bytes, " bytes of pinned memory: ", cudaGetErrorString(error)));
    }
    std::memset(data, 0, bytes);
    return Buffer(data, bytes, [](void* pointer) { cudaFreeHost(pointer); });
  }

 private:
  const int device_;
};

}  // namespace

std::unique_ptr<Allocator> MakePinnedAllocator(int device) { return std::make_unique<PinnedAllocator>(device); }

std::unique_ptr<Allocator> MakeCudaAllocator(int device) { return std::make_unique<CudaAllocator>(device); }

}  // namespace berth::kernels
