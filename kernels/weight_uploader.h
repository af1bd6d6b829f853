#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/buffer.h"
#include "kernels/dtype.h"
#include "kernels/linear_weight.h"
#include "kernels/tensor.h"

namespace berth::kernels {

// All that an uploader will be given, in sum.
struct WeightSizes {
  int64_t matrix_elements = 0;
  int64_t vector_elements = 0;
  int64_t weights = 0;  // matrices and vectors

  // Memory for them when matrices are in `dtype`; every weight begins at an alignment of its own.
  size_t Bytes(DType dtype) const;
};

// A file and where it is mapped.
struct HostFile {
  std::string path;
  int fd = -1;
  absl::Span<const std::byte> mapped;
};

// Brings weights into a backend's memory in the form that its kernels read: a matrix as one segment [N, K] in the backend's
// dtype, a vector as f32. Copies may still be under way when a call returns: what was handed in stays valid until Finish.
// Thread: one at a time.
class WeightUploader {
 public:
  virtual ~WeightUploader() = default;

  // Once, before the first weight. RESOURCE_EXHAUSTED says how much memory is missing.
  virtual absl::Status Reserve(const WeightSizes& sizes) = 0;

  // Before a weight that lies in `file`, which stays until Finish: may be read from there, for a page that is copied through
  // its mapping has to be mapped and unmapped. DATA_LOSS comes out of Finish if it is shorter by then.
  virtual void ReadFrom(HostFile file) {}

  // Segments of other dtypes, GGUF's among them, are converted on the way.
  virtual absl::StatusOr<LinearWeight> Matrix(const LinearWeight& host) = 0;
  virtual absl::StatusOr<Tensor> Vector(const Tensor& host) = 0;
  // [rows, k] as kernels/random_weight.h has it; every element is a function of (seed, its index) alone.
  virtual absl::StatusOr<LinearWeight> Random(int64_t rows, int64_t k, uint64_t seed, float scale) = 0;

  // Waits for all copies. The memory of all weights, to be kept as long as they are used.
  virtual absl::StatusOr<std::vector<Buffer>> Finish() = 0;

  // base::Hash64 of runs of the host's bytes that were handed in, of their copies as they have arrived; after Finish, while its
  // buffers are kept. Nothing for a run of which there is no copy in one piece, for it was converted or left where it was.
  using Bytes = absl::Span<const std::byte>;
  virtual absl::StatusOr<std::vector<std::optional<uint64_t>>> HashCopies(absl::Span<const Bytes> runs) {
    return std::vector<std::optional<uint64_t>>(runs.size());
  }
};

}  // namespace berth::kernels
