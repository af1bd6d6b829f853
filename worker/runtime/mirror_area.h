#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "base/check.h"
#include "kernels/tensor.h"

namespace berth::runtime {

// A tensor on the host and its twin on the device.
struct Mirrored {
  kernels::Tensor host, device;

  // On the host, of a tensor of i32.
  int32_t* ints() const { return static_cast<int32_t*>(host.raw()); }
};

// Cuts tensors out of two areas of memory at equal offsets, so that one copy carries them all from one to the other. Without
// memory it only measures. Owns nothing. Thread: the executor's.
class MirrorArea {
 public:
  MirrorArea() = default;
  MirrorArea(void* host, void* device, size_t bytes)
      : host_(static_cast<std::byte*>(host)), device_(static_cast<std::byte*>(device)), bytes_(bytes) {}

  Mirrored Cut(kernels::DType dtype, std::initializer_list<int64_t> shape) {
    Mirrored tensor{{At(host_), dtype, shape}, {At(device_), dtype, shape}};
    const auto size = static_cast<size_t>(tensor.host.elements() * kernels::Info(dtype).block_bytes);
    used_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    BERTH_CHECK(host_ == nullptr || used_ <= bytes_) << used_ << " bytes of an area of " << bytes_;
    return tensor;
  }

  void* host() const { return host_; }
  void* device() const { return device_; }
  size_t bytes() const { return bytes_; }
  size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 64;

  void* At(std::byte* base) const { return base == nullptr ? nullptr : base + used_; }

  std::byte* host_ = nullptr;
  std::byte* device_ = nullptr;
  size_t bytes_ = 0, used_ = 0;
};

}  // namespace berth::runtime
