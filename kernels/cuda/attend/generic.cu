#include <cmath>

#include "kernels/cuda/attend/params.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kTile = 32;  // keys that a warp scores at once, one per lane

// One query head of one row. Warp w takes the key tiles w, w + 4, …; tiles are cut by absolute position, and the warps' partial
// results are combined in order, so that a row's result does not depend on its batch or chunk. Grid: (heads, rows).
template <typename T, int kDimsPerLane>
__global__ void __launch_bounds__(kWarps * 32) AttendRow(const __grid_constant__ AttendParams params) {
  __shared__ float query[kMaxKeyDim];
  __shared__ float partial[kWarps][32 * kDimsPerLane];
  __shared__ float maxima[kWarps], sums[kWarps];
  const int head = blockIdx.x, row = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int key_dim = params.kv.key_dim, value_dim = params.kv.value_dim;
  const int value_stride = params.kv.values_in_keys ? key_dim : value_dim;
  LetSuccessorStart();
  WaitForInputs();
  const T* q = static_cast<const T*>(params.q) + row * params.q_stride + head * params.q_head_stride;
  for (int i = threadIdx.x; i < key_dim; i += blockDim.x) {
    query[i] = ToFloat(q[i]) * params.scale;
  }
  __syncthreads();
  const int position = params.position[row];
  const int first = params.window > 0 ? max(0, position - params.window + 1) : 0;
  const int32_t* blocks = params.block_table + params.sequence_of[row] * params.block_table_stride;
  const std::byte* cache = params.kv.base + head / params.group * params.kv.head_stride;
  float highest = -INFINITY, sum = 0, value[kDimsPerLane] = {};
  for (int tile = first / kTile + warp; tile * kTile <= position; tile += kWarps) {
    const std::byte* block = cache + blocks[tile * kTile / kKvBlockTokens] * params.kv.block_stride;
    const int row_in_block = tile * kTile % kKvBlockTokens, key_position = tile * kTile + lane;
    const T* keys = reinterpret_cast<const T*>(block) + row_in_block * key_dim;
    const T* values = params.kv.values_in_keys
                          ? keys
                          : reinterpret_cast<const T*>(block) + kKvBlockTokens * key_dim + row_in_block * value_dim;
    float score = -INFINITY;
    if (key_position >= first && key_position <= position) {
      float dot = 0;
      for (int i = 0; i < key_dim; ++i) dot += query[i] * ToFloat(keys[lane * key_dim + i]);
      if (params.softcap > 0) dot = params.softcap * tanhf(dot / params.softcap);
      if (params.alibi_slope != nullptr) dot += params.alibi_slope[head] * static_cast<float>(key_position - position);
      score = dot;
    }
    float tile_highest = score;
    for (int offset = 16; offset > 0; offset /= 2)
      tile_highest = fmaxf(tile_highest, __shfl_xor_sync(~0u, tile_highest, offset));
    const float new_highest = fmaxf(highest, tile_highest);
    if (new_highest == -INFINITY) continue;
    const float rescale = __expf(highest - new_highest), weight = __expf(score - new_highest);
    highest = new_highest;
    float tile_sum = weight;
    for (int offset = 16; offset > 0; offset /= 2) tile_sum += __shfl_xor_sync(~0u, tile_sum, offset);
    sum = sum * rescale + tile_sum;
    for (int d = 0; d < kDimsPerLane; ++d) value[d] *= rescale;
    // Rows past the last position are never read: recycled memory may hold NaN.
    const int from = max(first - tile * kTile, 0), to = min(position - tile * kTile, kTile - 1);
    for (int key = from; key <= to; ++key) {
      const float p = __shfl_sync(~0u, weight, key);
      for (int d = 0; d < kDimsPerLane; ++d) {
        if (lane + 32 * d < value_dim) value[d] += p * ToFloat(values[key * value_stride + lane + 32 * d]);
      }
    }
  }
  for (int d = 0; d < kDimsPerLane; ++d) partial[warp][lane + 32 * d] = value[d];
  if (lane == 0) {
    maxima[warp] = highest;
    sums[warp] = sum;
  }
  __syncthreads();
  float all_highest = maxima[0];
  for (int w = 1; w < kWarps; ++w) all_highest = fmaxf(all_highest, maxima[w]);
  float scale[kWarps], total = 0;
  for (int w = 0; w < kWarps; ++w) {
    scale[w] = __expf(maxima[w] - all_highest);
    total += sums[w] * scale[w];
  }
  T* out = static_cast<T*>(params.out) + row * params.out_stride + head * params.out_head_stride;
  for (int i = threadIdx.x; i < value_dim; i += blockDim.x) {
    float sum_of_warps = 0;
    for (int w = 0; w < kWarps; ++w) sum_of_warps += partial[w][i] * scale[w];
    out[i] = FromFloat<T>(sum_of_warps / total);
  }
}

}  // namespace

template <typename T>
void AttendGeneric(Context& context, const AttendParams& params) {
  const int dim = params.kv.value_dim;
  const auto kernel = dim <= 64    ? &AttendRow<T, 2>
                      : dim <= 128 ? &AttendRow<T, 4>
                      : dim <= 256 ? &AttendRow<T, 8>
                                   : &AttendRow<T, kMaxValueDim / 32>;
  Launch(context, kernel, dim3(params.group * params.kv.kv_heads, params.rows), dim3(kWarps * 32), 0, params);
}

template void AttendGeneric<__nv_bfloat16>(Context& context, const AttendParams& params);
template void AttendGeneric<__half>(Context& context, const AttendParams& params);

}  // namespace berth::kernels::cuda
