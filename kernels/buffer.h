#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"

namespace berth::kernels {

// Owns memory of one backend, aligned to 256 bytes and zeroed. Movable; freed on destruction.
class Buffer {
 public:
  using Deleter = void (*)(void*);

  Buffer() = default;
  Buffer(void* data, size_t bytes, Deleter deleter) : data_(data, deleter), bytes_(bytes) {}

  void* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<void, Deleter> data_{nullptr, [](void*) {}};
  size_t bytes_ = 0;
};

// Makes buffers of one backend. RESOURCE_EXHAUSTED with the size asked for when there is no memory.
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual absl::StatusOr<Buffer> Allocate(size_t bytes) = 0;
};

// Host memory. Lives as long as the process; thread-safe.
Allocator& HostAllocator();

}  // namespace berth::kernels
