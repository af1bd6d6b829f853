#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/check.h"
#include "kernels/dtype.h"

namespace berth::kernels {

// A view of device or host memory: it owns nothing and is copied freely. Strides are in elements; the last dimension of every
// tensor that an op takes is contiguous. An empty tensor (no data) stands for "absent" where an op says so.
class Tensor {
 public:
  static constexpr int kMaxRank = 4;

  Tensor() = default;
  // Row-major and contiguous.
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape);
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape, std::initializer_list<int64_t> strides);

  bool empty() const { return data_ == nullptr; }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t stride(int i) const { return strides_[i]; }
  int64_t elements() const;
  bool contiguous() const;
  void* raw() const { return data_; }

  template <typename T>
  T* data() const {
    BERTH_CHECK(sizeof(T) == static_cast<size_t>(Info(dtype_).block_bytes)) << DebugString();
    return static_cast<T*>(data_);
  }

  // Rows [begin, begin + count) of the first dimension.
  Tensor Rows(int64_t begin, int64_t count) const;

  // "bf16[4, 576]"
  std::string DebugString() const;

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  int rank_ = 0;
  std::array<int64_t, kMaxRank> shape_{};
  std::array<int64_t, kMaxRank> strides_{};
};

}  // namespace berth::kernels
