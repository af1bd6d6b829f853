#include "kernels/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace berth::kernels {
namespace {

constexpr size_t kAlignment = 256;

class HostAllocatorImpl final : public Allocator {
 public:
  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
    void* data = rounded < bytes ? nullptr : std::aligned_alloc(kAlignment, rounded);
    if (data == nullptr) return absl::ResourceExhaustedError(absl::StrCat("no host memory for ", bytes, " bytes"));
    std::memset(data, 0, rounded);
    return Buffer(data, bytes, [](void* memory) { std::free(memory); });
  }
};

}  // namespace

Allocator& HostAllocator() {
  static HostAllocatorImpl allocator;
  return allocator;
}

}  // namespace berth::kernels
