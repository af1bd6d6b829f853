#pragma once

#include "kernels/cuda/util/norm.cuh"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

// What happens to a product of AttnIn on its way to q and the cache, as kernels take it.
struct AttnFinish {
  const float* bias;
  float clip;
  int log_length;
  NormView q_norm, k_norm;
  const float* inverse_frequency;  // [variants, pairs]
  int pairs;
  float rope_scale;
  int q_heads, kv_heads, head_dim;
  const int32_t *position, *sequence_of, *rope_variant, *block_table;
  int64_t block_table_stride, q_stride, q_head_stride;
  KvLayer kv;
  std::byte* q;

  static AttnFinish Of(const AttnInArgs& args) {
    const Tensor& frequency = args.rope.inverse_frequency;
    return {
        .bias = static_cast<const float*>(args.bias.raw()),
        .clip = args.clip,
        .log_length = args.log_length,
        .q_norm = NormView::Of(args.q_norm),
        .k_norm = NormView::Of(args.k_norm),
        .inverse_frequency = static_cast<const float*>(frequency.raw()),
        .pairs = frequency.empty() ? 0 : static_cast<int>(frequency.dim(1)),
        .rope_scale = args.rope.attention_scale,
        .q_heads = args.q_heads,
        .kv_heads = args.kv_heads,
        .head_dim = args.head_dim,
        .position = args.batch.position.data<int32_t>(),
        .sequence_of = args.batch.sequence_of.data<int32_t>(),
        .rope_variant = static_cast<const int32_t*>(args.batch.rope_variant.raw()),
        .block_table = args.batch.block_table.data<int32_t>(),
        .block_table_stride = args.batch.block_table.stride(0),
        .q_stride = args.q.stride(0),
        .q_head_stride = args.q.stride(1),
        .kv = args.kv,
        .q = static_cast<std::byte*>(args.q.raw()),
    };
  }

  __device__ bool IsQ(int head) const { return head < q_heads; }
  __device__ bool IsV(int head) const { return head >= q_heads + kv_heads; }

  // The KV block of a position.
  __device__ int Block(int at, int sequence) const { return block_table[sequence * block_table_stride + at / kKvBlockTokens]; }

  // Where the head's `head_dim` results of a token go: q or the cache.
  template <typename T>
  __device__ T* To(int head, int token, int at, int block) const {
    if (IsQ(head)) return reinterpret_cast<T*>(q) + token * q_stride + head * q_head_stride;
    const int kv_head = head - q_heads - (IsV(head) ? kv_heads : 0),
              row = at % kKvBlockTokens + (IsV(head) ? kKvBlockTokens : 0);
    return reinterpret_cast<T*>(kv.base + block * kv.block_stride + kv_head * kv.head_stride) + row * head_dim;
  }

  __device__ float Frequency(int pair, int sequence) const {
    const int variant = rope_variant == nullptr ? 0 : rope_variant[sequence];
    return inverse_frequency[variant * pairs + pair];
  }

  // The cosine and sine of a pair's angle, times the rope's scale.
  __device__ float2 Angle(float frequency, int at) const {
    float sine, cosine;
    sincosf(static_cast<float>(at) * frequency, &sine, &cosine);
    return {cosine * rope_scale, sine * rope_scale};
  }

  // What a head at a position is multiplied by.
  __device__ float HeadScale(int head, int at) const {
    if (log_length == 0 || at < log_length || !IsQ(head)) return 1;
    return logf(static_cast<float>(at + 1)) / logf(static_cast<float>(log_length));
  }

  __device__ float Clipped(float x) const { return clip > 0 ? fminf(fmaxf(x, -clip), clip) : x; }
};

// (a, b) turned by the angle.
__device__ inline float2 Rotated(float a, float b, float2 angle) {
  return {a * angle.x - b * angle.y, b * angle.x + a * angle.y};
}

}  // namespace berth::kernels::cuda
