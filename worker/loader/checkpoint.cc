#include "worker/loader/checkpoint.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace berth::loader {

std::string ShapeText(absl::Span<const int64_t> shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

absl::Status WrongShape(const TensorInfo& tensor, absl::Span<const int64_t> want) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", tensor.name, " has shape ", ShapeText(tensor.shape), ", want ", ShapeText(want)));
}

absl::StatusOr<size_t> TensorBytes(kernels::DType dtype, absl::Span<const int64_t> shape) {
  const kernels::DTypeInfo& info = kernels::Info(dtype);
  int64_t elements = 1;
  for (int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(elements, dimension, &elements)) {
      return absl::InvalidArgumentError(absl::StrCat("shape ", ShapeText(shape), " is too large"));
    }
  }
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % info.block_elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat("shape ", ShapeText(shape), " has rows that are no multiple of ",
                                                   info.block_elements, ", the block of ", std::string(info.name)));
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements / info.block_elements, static_cast<int64_t>(info.block_bytes), &bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("shape ", ShapeText(shape), " is too large"));
  }
  return static_cast<size_t>(bytes);
}

}  // namespace berth::loader
