#include "kernels/tensor.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"

namespace berth::kernels {

Tensor::Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape)
    : data_(data), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
  BERTH_CHECK(shape.size() <= kMaxRank) << shape.size();
  std::copy(shape.begin(), shape.end(), shape_.begin());
  int64_t stride = 1;
  for (int i = rank_ - 1; i >= 0; --i) {
    strides_[i] = stride;
    stride *= shape_[i];
  }
}

Tensor::Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape, std::initializer_list<int64_t> strides)
    : Tensor(data, dtype, shape) {
  BERTH_CHECK(strides.size() == shape.size()) << DebugString() << " with " << strides.size() << " strides";
  std::copy(strides.begin(), strides.end(), strides_.begin());
}

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (int i = 0; i < rank_; ++i) count *= shape_[i];
  return count;
}

bool Tensor::contiguous() const {
  int64_t stride = 1;
  for (int i = rank_ - 1; i >= 0; --i) {
    if (shape_[i] != 1 && strides_[i] != stride) return false;
    stride *= shape_[i];
  }
  return true;
}

Tensor Tensor::Rows(int64_t begin, int64_t count) const {
  BERTH_CHECK(rank_ > 0 && begin >= 0 && count >= 0 && begin + count <= shape_[0])
      << "rows [" << begin << ", " << begin + count << ") of " << DebugString();
  BERTH_CHECK(!IsQuantized(dtype_)) << DebugString();
  Tensor rows = *this;
  rows.shape_[0] = count;
  if (data_ != nullptr) rows.data_ = static_cast<std::byte*>(data_) + begin * strides_[0] * Info(dtype_).block_bytes;
  return rows;
}

std::string Tensor::DebugString() const {
  return absl::StrCat(absl::string_view(Info(dtype_).name.data(), Info(dtype_).name.size()), "[",
                      absl::StrJoin(absl::MakeConstSpan(shape_.data(), rank_), ", "), "]",
                      data_ == nullptr ? " without data" : "");
}

}  // namespace berth::kernels
