#include "kernels/weight_memory.h"

#include "base/check.h"

namespace berth::kernels {
namespace {

constexpr size_t kAlignment = 256;

}  // namespace

size_t WeightSizes::Bytes(DType dtype) const {
  return RowBytes(dtype, matrix_elements) + RowBytes(DType::kF32, vector_elements) + weights * (kAlignment - 1);
}

std::byte* WeightMemory::Take(size_t bytes) {
  const size_t begin = (used_ + kAlignment - 1) / kAlignment * kAlignment;
  used_ = begin + bytes;
  BERTH_CHECK(used_ <= buffer_.bytes()) << "weights take " << used_ << " bytes, " << buffer_.bytes() << " were reserved";
  return static_cast<std::byte*>(buffer_.data()) + begin;
}

LinearWeight WeightMemory::TakeMatrix(DType dtype, int64_t rows, int64_t k) {
  return {.k = k, .segments = {{.dtype = dtype, .rows = rows, .data = Take(rows * RowBytes(dtype, k))}}};
}

}  // namespace berth::kernels
