#include <cuda_runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
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

constexpr size_t kHugePage = size_t{2} << 20;

class PinnedAllocator : public Allocator {
 public:
  explicit PinnedAllocator(int device) : device_(device) {}

  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    void* data = nullptr;
    const bool huge = bytes >= kHugePage;
    cudaError_t error = cudaSetDevice(device_);
    if (error == cudaSuccess) error = huge ? PinHugePages(bytes, &data) : cudaHostAlloc(&data, std::max<size_t>(bytes, 1), 0);
    if (error != cudaSuccess) {
      cudaGetLastError();
      return absl::ResourceExhaustedError(absl::StrCat("no ", bytes, " bytes of pinned memory: ", cudaGetErrorString(error)));
    }
    if (huge) return Buffer(data, bytes, FreeHugePages);
    std::memset(data, 0, bytes);
    return Buffer(data, bytes, [](void* pointer) { cudaFreeHost(pointer); });
  }

 private:
  // The driver pins 4 MiB of them in 0.2 ms, and small pages, as cudaHostAlloc has them, in 2 to 4.
  static cudaError_t PinHugePages(size_t bytes, void** data) {
    const size_t pages = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    *data = std::aligned_alloc(kHugePage, pages);
    if (*data == nullptr) return cudaErrorMemoryAllocation;
    madvise(*data, pages, MADV_HUGEPAGE);
    std::memset(*data, 0, pages);
    const cudaError_t error = cudaHostRegister(*data, pages, cudaHostRegisterDefault);
    if (error != cudaSuccess) std::free(*data);
    return error;
  }

  static void FreeHugePages(void* data) {
    cudaHostUnregister(data);
    std::free(data);
  }

  const int device_;
};

}  // namespace

std::unique_ptr<Allocator> MakePinnedAllocator(int device) { return std::make_unique<PinnedAllocator>(device); }

std::unique_ptr<Allocator> MakeCudaAllocator(int device) { return std::make_unique<CudaAllocator>(device); }

}  // namespace berth::kernels
