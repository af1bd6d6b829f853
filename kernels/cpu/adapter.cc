#include <algorithm>

#include "kernels/cpu/linear.h"

namespace berth::kernels::cpu {

void AddAdapter(Context& context, const ImageAdapter& adapter, const Tensor& in, const Tensor& product) {
  if (adapter.row.empty() || adapter.down.empty()) return;
  const auto* row = adapter.row.data<int32_t>();
  const int64_t rows = adapter.row.dim(0), k = in.dim(1), rank = adapter.up.k, parts = adapter.down.n() / rank;
  const int64_t n = product.dim(1) / parts;
  const Tensor taken(context.expert_in.Get(rows * k), DType::kF32, {rows, k});
  const Tensor low(context.row.Get(rows * rank), DType::kF32, {rows, rank});
  const Tensor added(context.expert_up.Get(rows * n), DType::kF32, {rows, n});
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(in.data<float>() + row[r] * in.stride(0), k, taken.data<float>() + r * k);
  }
  for (int64_t part = 0; part < parts; ++part) {
    Linear(context, taken, adapter.down.Rows(part * rank, rank), Tensor(), low);
    Linear(context, low, adapter.up.Rows(part * n, n), Tensor(), added);
    ForRows(context, rows, [&](int64_t r, int) {
      const float* from = added.data<float>() + r * n;
      float* to = product.data<float>() + row[r] * product.stride(0) + part * n;
      for (int64_t i = 0; i < n; ++i) to[i] += from[i];
    });
  }
}

}  // namespace berth::kernels::cpu
