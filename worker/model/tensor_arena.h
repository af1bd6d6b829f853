#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/buffer.h"
#include "kernels/tensor.h"

namespace berth::model {

struct TensorRequest {
  kernels::Tensor* tensor;  // set to a view of the allocation
  kernels::DType dtype;
  int64_t rows;
  int64_t columns = -1;  // -1: the tensor has one dimension
};

// One zeroed allocation cut into contiguous tensors, each aligned to 256 bytes. The tensors live as long as the buffer.
absl::StatusOr<kernels::Buffer> AllocateTensors(kernels::Allocator& allocator, absl::Span<const TensorRequest> requests);

}  // namespace berth::model
