#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/dtype.h"
#include "worker/loader/mapped_file.h"
#include "worker/loader/weight_checksum.h"

namespace berth::loader {

// One tensor of a checkpoint file. `shape` is row-major: the last dimension is contiguous.
struct TensorInfo {
  std::string name;
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> shape;
  std::string file;  // the path of the one that holds it; empty where none does
  absl::Span<const std::byte> data;

  // Matrices: rows and columns; vectors: rows and 0.
  int64_t rows() const { return shape[0]; }
  int64_t columns() const { return shape.size() == 2 ? shape[1] : 0; }
};

// What a checkpoint holds: the only thing that a load plan looks at. Names are unique.
using CheckpointIndex = std::vector<TensorInfo>;

// Tensors and what their data points into: mapped files, and memory of those that no file has as they are here.
struct Checkpoint {
  CheckpointIndex tensors;
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<std::shared_ptr<const void>> memory;
  // Null where a format has no checksums.
  std::shared_ptr<WeightVerifier> verifier;
};

// "[8192, 2048]"
std::string ShapeText(absl::Span<const int64_t> shape);

// INVALID_ARGUMENT: "tensor NAME has shape [64, 96], want [96, 64]".
absl::Status WrongShape(const TensorInfo& tensor, absl::Span<const int64_t> want);

// Bytes of a tensor of that type and shape. INVALID_ARGUMENT for a negative dimension, a size over 2^63 - 1, and a last
// dimension that is no multiple of the type's block.
absl::StatusOr<size_t> TensorBytes(kernels::DType dtype, absl::Span<const int64_t> shape);

}  // namespace berth::loader
