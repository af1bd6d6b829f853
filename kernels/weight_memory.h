#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/buffer.h"
#include "kernels/linear_weight.h"
#include "kernels/weight_uploader.h"

namespace berth::kernels {

// One buffer from which an uploader takes the memory of one weight after the other.
class WeightMemory {
 public:
  void Hold(Buffer buffer) { buffer_ = std::move(buffer); }
  std::byte* Take(size_t bytes);
  // Memory of a matrix, as its only segment.
  LinearWeight TakeMatrix(DType dtype, int64_t rows, int64_t k);
  Buffer Release() { return std::move(buffer_); }

 private:
  Buffer buffer_;
  size_t used_ = 0;
};

}  // namespace berth::kernels
