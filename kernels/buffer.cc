#include "kernels/buffer.h"

#include <cstdint>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace berth::kernels {
namespace {

constexpr size_t kAlignment = 256;

// Memory from calloc, which large requests get from the kernel as zero pages: what is never touched is never resident. In front
// of the aligned start stands the pointer to give back.
class HostAllocatorImpl final : public Allocator {
 public:
  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    void* base = bytes > SIZE_MAX - 2 * kAlignment ? nullptr : std::calloc(1, bytes + 2 * kAlignment);
    if (base == nullptr) return absl::ResourceExhaustedError(absl::StrCat("no host memory for ", bytes, " bytes"));
    auto* data = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(base) / kAlignment + 1) * kAlignment);
    data[-1] = base;
    return Buffer(data, bytes, [](void* memory) { std::free(static_cast<void**>(memory)[-1]); });
  }
};

}  // namespace

Allocator& HostAllocator() {
  static HostAllocatorImpl allocator;
  return allocator;
}

}  // namespace berth::kernels
