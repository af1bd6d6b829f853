#include "base/check.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Rows of `values` that `row` does not name become zeros. Grid: rows of `values`.
template <typename T>
__global__ void KeepRows(const int32_t* row, int64_t count, T* values, int64_t width) {
  LetSuccessorStart();
  WaitForInputs();
  bool named = false;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) named |= row[i] == static_cast<int32_t>(blockIdx.x);
  if (__syncthreads_or(named)) return;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) values[blockIdx.x * width + i] = FromFloat<T>(0);
}

}  // namespace

bool TakesAdapter(const Context& context, const ImageAdapter& adapter) {
  return !adapter.down.empty() && (!adapter.row.empty() || context.batch_invariant);
}

// All rows are multiplied, those that are not of images as zeros: the rank is small beside what the product itself has.
void AddAdapter(Context& context, const ImageAdapter& adapter, const Tensor& in, const Tensor& product) {
  if (adapter.row.empty() || adapter.down.empty()) return;
  const int64_t rows = in.dim(0), rank = adapter.up.k, parts = adapter.down.n() / rank, n = product.dim(1) / parts;
  const Tensor low(context.adapted.data(), in.dtype(), {rows, rank});
  BERTH_CHECK(low.elements() * sizeof(uint16_t) <= context.adapted.bytes()) << "no memory for adapters of rank " << rank;
  for (int64_t part = 0; part < parts; ++part) {
    Linear(context, in, adapter.down.Rows(part * rank, rank), 0, low);
    WithActivation(in.dtype(), [&](auto type) {
      using T = decltype(type);
      Launch(context, KeepRows<T>, rows, kThreads, 0, static_cast<const int32_t*>(adapter.row.raw()), adapter.row.dim(0),
             static_cast<T*>(low.raw()), rank);
    });
    const Tensor columns(static_cast<std::byte*>(product.raw()) + RowBytes(product.dtype(), part * n), product.dtype(),
                         {rows, n}, {product.stride(0), 1});
    Linear(context, low, adapter.up.Rows(part * n, n), 1, columns);
  }
}

}  // namespace berth::kernels::cuda
