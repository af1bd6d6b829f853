#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/linear_weight.h"
#include "kernels/tensor.h"

namespace berth::kernels {

// Brings weights into a backend's memory in the form that its kernels read: a matrix as one segment [N, K] in the backend's
// dtype, a vector as f32. Copies may still be under way when a call returns: what was handed in stays valid until Finish.
// RESOURCE_EXHAUSTED says how much memory is missing. Thread: one at a time.
class WeightUploader {
 public:
  virtual ~WeightUploader() = default;

  // Segments of other dtypes, GGUF's among them, are converted on the way.
  virtual absl::StatusOr<LinearWeight> Matrix(const LinearWeight& host) = 0;
  virtual absl::StatusOr<Tensor> Vector(const Tensor& host) = 0;
  // [rows, k] of mean 0 and deviation `scale`; every element is a function of (seed, its index) alone.
  virtual absl::StatusOr<LinearWeight> Random(int64_t rows, int64_t k, uint64_t seed, float scale) = 0;

  // Waits for all copies. The memory of all weights, to be kept as long as they are used.
  virtual absl::StatusOr<std::vector<Buffer>> Finish() = 0;
};

}  // namespace berth::kernels
