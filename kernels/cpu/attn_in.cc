#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels::cpu {
namespace {

// out[i] = {cos, sin}(position * inverse_frequency[i]) * scale.
void RopeAngles(const float* inverse_frequency, int64_t pairs, float position, float scale, float* cosine, float* sine) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float angle = position * inverse_frequency[i];
    cosine[i] = std::cos(angle) * scale;
    sine[i] = std::sin(angle) * scale;
  }
}

void Rotate(float* head, int64_t pairs, const float* cosine, const float* sine) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = head[i], b = head[i + pairs];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + pairs] = b * cosine[i] + a * sine[i];
  }
}

float LogScale(int log_length, int32_t position) {
  if (log_length == 0 || position < log_length) return 1;
  return static_cast<float>(std::log(position + 1.0) / std::log(static_cast<double>(log_length)));
}

void StoreKv(const float* from, DType dtype, int64_t count, std::byte* to) {
  if (dtype == DType::kF32) {
    std::copy(from, from + count, reinterpret_cast<float*>(to));
  } else {
    std::transform(from, from + count, reinterpret_cast<uint16_t*>(to), dtype == DType::kF16 ? ToHalf : ToBf16);
  }
}

// Bias, clip, norms and rotation of one row's product, in place, then its q and KV.
void FinishRow(const AttnInArgs& args, int64_t r, float* row, float* angles) {
  const int64_t dim = args.head_dim, n = (args.q_heads + 2 * args.kv_heads) * dim;
  if (args.clip > 0) {
    for (int64_t i = 0; i < n; ++i) row[i] = std::clamp(row[i], -args.clip, args.clip);
  }
  const int32_t position = args.batch.position.data<int32_t>()[r], sequence = args.batch.sequence_of.data<int32_t>()[r];
  const Tensor& frequency = args.rope.inverse_frequency;
  const int64_t pairs = frequency.empty() ? 0 : frequency.dim(1);
  if (pairs > 0) {
    const int32_t variant = args.batch.rope_variant.empty() ? 0 : args.batch.rope_variant.data<int32_t>()[sequence];
    BERTH_CHECK(variant >= 0 && variant < frequency.dim(0)) << "rope variant " << variant << " of " << frequency.DebugString();
    RopeAngles(frequency.data<float>() + variant * frequency.stride(0), pairs, static_cast<float>(position),
               args.rope.attention_scale, angles, angles + pairs);
  }
  for (int h = 0; h < args.q_heads + args.kv_heads; ++h) {
    float* head = row + h * dim;
    NormRow(h < args.q_heads ? args.q_norm : args.k_norm, head, head, dim);
    Rotate(head, pairs, angles, angles + pairs);
  }
  float* q = args.q.data<float>() + r * args.q.stride(0);
  const float q_scale = LogScale(args.log_length, position);
  for (int h = 0; h < args.q_heads; ++h) {
    for (int64_t i = 0; i < dim; ++i) q[h * args.q.stride(1) + i] = row[h * dim + i] * q_scale;
  }
  const Tensor& table = args.batch.block_table;
  BERTH_CHECK(position >= 0 && position / kKvBlockTokens < table.dim(1))
      << "position " << position << ", " << table.DebugString();
  const int64_t block = table.data<int32_t>()[sequence * table.stride(0) + position / kKvBlockTokens];
  const size_t offset = position % kKvBlockTokens * RowBytes(args.kv.dtype, dim);
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
  ForRows(context, rows, [&](int64_t r, int thread) {
    FinishRow(args, r, product.data<float>() + r * n, context.thread[thread].Get(args.head_dim));
  });
}

}  // namespace berth::kernels::cpu
