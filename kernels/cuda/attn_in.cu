#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/norm.cuh"

namespace berth::kernels::cuda {
namespace {

struct FinishParams {
  const float* bias;
  float clip;
  NormView q_norm, k_norm;
  const float* inverse_frequency;  // [variants, pairs]
  int pairs;
  float rope_scale;
  int q_heads, kv_heads, head_dim;
  const int32_t *position, *sequence_of, *rope_variant, *block_table;
  int64_t block_table_stride, q_stride, q_head_stride;
  KvLayer kv;
};

__device__ std::byte* CacheRow(const KvLayer& kv, int64_t block, int head, int row, int64_t row_bytes, bool value) {
  return kv.base + block * kv.block_stride + head * kv.head_stride + (value ? kKvBlockTokens * row_bytes : 0) + row * row_bytes;
}

// One head of one row: bias → clip → norm → rotation → q or the cache. Grid: (heads of q, k and v, rows).
template <typename T>
__global__ void FinishHead(FinishParams params, const T* product, int64_t product_stride, T* q) {
  extern __shared__ float head[];
  __shared__ float shared[32];
  const int h = blockIdx.x, row = blockIdx.y, dim = params.head_dim;
  const bool is_q = h < params.q_heads, is_v = h >= params.q_heads + params.kv_heads;
  for (int i = threadIdx.x; i < dim; i += blockDim.x) {
    float x = ToFloat(product[row * product_stride + h * dim + i]);
    if (params.bias != nullptr) x += params.bias[h * dim + i];
    if (params.clip > 0) x = fminf(fmaxf(x, -params.clip), params.clip);
    head[i] = x;
  }
  __syncthreads();
  const NormView& norm = is_q ? params.q_norm : params.k_norm;
  if (!is_v && norm.weight != nullptr) {
    const float2 statistics = NormStatistics(
        norm, dim, [&](int64_t i) { return head[i]; }, shared);
    for (int i = threadIdx.x; i < dim; i += blockDim.x) head[i] = Normed(norm, statistics, head[i], i);
    __syncthreads();
  }
  const int position = params.position[row], sequence = params.sequence_of[row];
  const int variant = params.rope_variant == nullptr ? 0 : params.rope_variant[sequence];
  T* to = q + row * params.q_stride + h * params.q_head_stride;
  if (!is_q) {
    const int64_t block = params.block_table[sequence * params.block_table_stride + position / kKvBlockTokens];
    const int kv_head = (h - params.q_heads) % params.kv_heads;
    to = reinterpret_cast<T*>(CacheRow(params.kv, block, kv_head, position % kKvBlockTokens, dim * sizeof(T), is_v));
  }
  for (int i = threadIdx.x; i < dim; i += blockDim.x) {
    float x = head[i];
    if (!is_v && i < 2 * params.pairs) {
      const int pair = i % params.pairs;
      float sine, cosine;
      sincosf(static_cast<float>(position) * params.inverse_frequency[variant * params.pairs + pair], &sine, &cosine);
      const float other = i < params.pairs ? -head[i + params.pairs] : head[i - params.pairs];
      x = (x * cosine + other * sine) * params.rope_scale;
    }
    to[i] = FromFloat<T>(x);
  }
}

}  // namespace

void AttnIn(Context& context, const AttnInArgs& args) {
  const int64_t rows = args.batch.tokens, hidden = args.qkv.k, n = args.qkv.n();
  const DType dtype = args.residual.dtype();
  BERTH_CHECK(args.kv.dtype == dtype) << "KV is " << Info(args.kv.dtype).name << ", want " << Info(dtype).name;
  const Tensor normed(context.normed.data(), dtype, {rows, hidden});
  const Tensor product(context.product.data(), dtype, {rows, n});
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  Linear(context, normed, args.qkv, 0, product);
  const Tensor& frequency = args.rope.inverse_frequency;
  const FinishParams params{
      .bias = static_cast<const float*>(args.bias.raw()),
      .clip = args.clip,
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
  };
  const dim3 grid(args.q_heads + 2 * args.kv_heads, rows);
  WithActivation(dtype, [&](auto type) {
    using T = decltype(type);
    FinishHead<T><<<grid, 64, args.head_dim * sizeof(float), context.stream>>>(params, static_cast<const T*>(product.raw()), n,
                                                                               static_cast<T*>(args.q.raw()));
  });
}

}  // namespace berth::kernels::cuda
