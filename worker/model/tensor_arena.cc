#include "worker/model/tensor_arena.h"

#include <cstddef>

#include "base/status.h"

namespace berth::model {
namespace {

constexpr size_t kAlignment = 256;

size_t AlignedBytes(const TensorRequest& request) {
  const size_t bytes = request.columns < 0 ? kernels::RowBytes(request.dtype, request.rows)
                                           : request.rows * kernels::RowBytes(request.dtype, request.columns);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

absl::StatusOr<kernels::Buffer> AllocateTensors(kernels::Allocator& allocator, absl::Span<const TensorRequest> requests) {
  size_t bytes = 0;
  for (const TensorRequest& request : requests) bytes += AlignedBytes(request);
  BERTH_ASSIGN_OR_RETURN(kernels::Buffer buffer, allocator.Allocate(bytes));
  std::byte* next = static_cast<std::byte*>(buffer.data());
  for (const TensorRequest& request : requests) {
    *request.tensor = request.columns < 0 ? kernels::Tensor(next, request.dtype, {request.rows})
                                          : kernels::Tensor(next, request.dtype, {request.rows, request.columns});
    next += AlignedBytes(request);
  }
  return buffer;
}

}  // namespace berth::model
