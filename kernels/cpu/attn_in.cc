#include <algorithm>
#include <cmath>

#include "kernels/cpu/attn_row.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels::cpu {
namespace {

float LogScale(int log_length, int32_t position) {
  if (log_length == 0 || position < log_length) return 1;
  return static_cast<float>(std::log(position + 1.0) / std::log(static_cast<double>(log_length)));
}

// Bias, clip, norms and rotation of one row's product, in place, then its q and KV.
void FinishRow(const AttnInArgs& args, int64_t r, float* row, float* angles) {
  const int64_t dim = args.head_dim, n = (args.q_heads + 2 * args.kv_heads) * dim;
  if (args.clip > 0) {
    for (int64_t i = 0; i < n; ++i) row[i] = std::clamp(row[i], -args.clip, args.clip);
  }
  const int64_t pairs = RopeAngles(args.rope, args.batch, r, angles);
  for (int h = 0; h < args.q_heads + args.kv_heads; ++h) {
    float* head = row + h * dim;
    NormRow(h < args.q_heads ? args.q_norm : args.k_norm, head, head, dim);
    Rotate(head, pairs, angles);
  }
  float* q = args.q.data<float>() + r * args.q.stride(0);
  const float q_scale = LogScale(args.log_length, args.batch.position.data<int32_t>()[r]);
  for (int h = 0; h < args.q_heads; ++h) {
    for (int64_t i = 0; i < dim; ++i) q[h * args.q.stride(1) + i] = row[h * dim + i] * q_scale;
  }
  const auto [block, token] = PlaceOf(args.batch, r);
  const size_t offset = token * RowBytes(args.kv.dtype, dim);
  for (int h = 0; h < args.kv_heads; ++h) {
    StoreKv(row + (args.q_heads + h) * dim, args.kv.dtype, dim, args.kv.Keys(block, h) + offset);
    StoreKv(row + (args.q_heads + args.kv_heads + h) * dim, args.kv.dtype, dim, args.kv.Values(block, h) + offset);
  }
}

}  // namespace

void AttnIn(Context& context, const AttnInArgs& args) {
  const int64_t rows = args.batch.tokens, n = args.qkv.n();
  const Tensor normed = NormRows(context, args.norm, args.residual);
  const Tensor product(context.product.Get(rows * n), DType::kF32, {rows, n});
  Linear(context, normed, args.qkv, args.bias, product);
  AddAdapter(context, args.adapter, normed, product);
  ForRows(context, rows, [&](int64_t r, int thread) {
    FinishRow(args, r, product.data<float>() + r * n, context.thread[thread].Get(args.head_dim));
  });
}

}  // namespace berth::kernels::cpu
