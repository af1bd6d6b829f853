#pragma once

#include "kernels/cuda/attend/prefill_sm90_work.cuh"
#include "kernels/cuda/util/numeric.cuh"
#include "kernels/cuda/util/products_sm90.cuh"

// What a group of four warps of the Hopper prefill kernel holds of its rows, and does to them. See prefill_sm90.cuh.
namespace berth::kernels::cuda {

#ifdef BERTH_HAS_SM90A

// Values behind the entry's last may be NaN, whose product with a weight of zero is NaN: a group zeroes them before it
// multiplies.
__device__ inline void ZeroValues(uint32_t values, int from, int thread, int group_barrier) {
  using Shape = PrefillSm90Shape;
  const int chunks = (Shape::kTokens - from) * 8;
  for (int i = thread; i < chunks * Shape::kColumns; i += 128) {
    const uint32_t at = values + i / chunks * Shape::kTileColumn + from * 128 + i % chunks * 16;
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(at), "r"(0) : "memory");
  }
  sm90::FenceShared();
  sm90::SyncWarpgroup(group_barrier);
}

// As long as no thread's weights of a tile add up to more, a row keeps its base: all types hold them as exactly as those up to
// one.
inline constexpr float kMostWeight = 1 << 15;
__device__ inline bool IsTooMuch(float sum) { return !(sum <= kMostWeight); }  // NaN is, too

// One group's 64 rows. Its products of a tile are queued by Score and AddValues and waited for by the caller.
template <typename T>
struct PrefillSm90State {
  using Shape = PrefillSm90Shape;
  PrefillRows rows;
  float out[Shape::kDim / 8][4];
  float score[Shape::kTokens / 8][4];
  uint32_t weight[Shape::kTokens / 16][4];

  __device__ void Score(uint32_t queries, uint32_t keys) {
    const uint64_t first_queries = sm90::Descriptor(queries), first_keys = sm90::Descriptor(keys);
    sm90::FenceProducts();
#pragma unroll
    for (int k = 0; k < Shape::kDim / 16; ++k) {
      sm90::MultiplyShared<T>(score, sm90::Behind(first_queries, k / 4 * Shape::kQueryColumn + k % 4 * 32),
                              sm90::Behind(first_keys, k / 4 * Shape::kTileColumn + k % 4 * 32), k > 0);
    }
    sm90::CommitProducts();
  }

  __device__ void AddValues(uint32_t values) {
    const uint64_t first_values = sm90::Descriptor(values, Shape::kTileColumn);
    sm90::FenceProducts();
#pragma unroll
    for (int k = 0; k < Shape::kTokens / 16; ++k) {
      sm90::MultiplyRegisters<T>(out, weight[k], sm90::Behind(first_values, k * 16 * 128));
    }
    sm90::CommitProducts();
  }

  // Of one tile of keys, by the warp alone, eight keys at a time. Not to the bit what Score gives.
  __device__ void ScoreEight(uint32_t queries, uint32_t keys, int n, float (&c)[4]) const {
    const int lane = threadIdx.x % 32, query = threadIdx.x % 128 / 32 * 16 + lane % 16, key = n * 8 + lane % 8;
    c[0] = c[1] = c[2] = c[3] = 0;
#pragma unroll
    for (int k = 0; k < Shape::kDim / 32; ++k) {
      uint32_t a[2][4], b[4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        LoadMatrices(a[i], queries + k / 2 * Shape::kQueryColumn + ChunkOffset<64>(query, k % 2 * 4 + i * 2 + lane / 16));
      }
      LoadMatrices(b, keys + k / 2 * Shape::kTileColumn + ChunkOffset<64>(key, k % 2 * 4 + lane / 8));
      Mma<T>(c, a[0], b[0], b[1]);
      Mma<T>(c, a[1], b[2], b[3]);
    }
  }

  // Weights of a tile once more, in rows whose `sum` is too large for their base, with one that holds them. The warp has
  // `row_count` rows, behind which lies anything. `shape` does to scores of eight keys what is done before they are weighed.
  template <typename ShapeScores>
  __device__ void WeighAgain(float scale, uint32_t queries, uint32_t keys, int row_count, float (&sum)[2], float (&rescale)[2],
                             const ShapeScores& shape) {
    const float scale_log2 = scale * kLog2E;
    bool again[2];
    float top[2] = {-INFINITY, -INFINITY};
    for (int half = 0; half < 2; ++half) {
      again[half] = PrefillRows::RowMax(IsTooMuch(sum[half]) ? 1 : 0) > 0 && half * 8 + threadIdx.x % 32 / 4 < row_count;
      rescale[half] = 1;
    }
    if (!__any_sync(~0u, again[0] || again[1])) return;
    float few[1][4];
#pragma unroll 1
    for (int n = 0; n < Shape::kTokens / 8; ++n) {
      ScoreEight(queries, keys, n, few[0]);
      shape(n, few);
      for (int half = 0; half < 2; ++half) top[half] = fmaxf(top[half], PrefillRows::Highest(few, half));
    }
    for (int half = 0; half < 2; ++half) {
      if (!again[half]) continue;
      rescale[half] = rows.MoveBase(half, fmaxf(rows.highest[half], top[half]), scale_log2);
      rows.sum[half] *= rescale[half];
      sum[half] = 0;
    }
#pragma unroll 1
    for (int n = 0; n < Shape::kTokens / 8; ++n) {
      ScoreEight(queries, keys, n, few[0]);
      shape(n, few);
      float few_sum[2];
      rows.WeighAsIs(scale, few, few_sum);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (!again[half]) continue;
        sum[half] += few_sum[half];
#pragma unroll
        for (int m = 0; m < Shape::kTokens / 8; ++m) {
          if (m == n) score[m][half * 2] = few[0][half * 2], score[m][half * 2 + 1] = few[0][half * 2 + 1];
        }
      }
    }
  }

  // By way of 4 KiB of shared memory of the warp's own, so that whole rows leave at once: a fragment's pieces are 16 bytes.
  __device__ void Store(const AttendParams& params, const PrefillTile& tile, int kv_head, int row, uint32_t staging) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float factor = rows.Factor(half);
#pragma unroll
      for (int n = 0; n < Shape::kDim / 8; ++n) {
        const uint32_t at = staging + ChunkOffset<Shape::kDim>(half * 8 + lane / 4, n) + lane % 4 * 4;
        const uint32_t pair = Pack<T>(out[n][half * 2] * factor, out[n][half * 2 + 1] * factor);
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(pair) : "memory");
      }
    }
    __syncwarp();
    constexpr int kChunks = Shape::kDim / 8;
#pragma unroll
    for (int i = lane; i < 16 * kChunks; i += 32) {
      const int own = row + i / kChunks, chunk = i % kChunks;
      if (own >= tile.first_row + tile.rows) break;
      uint4 vector;
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(vector.x), "=r"(vector.y), "=r"(vector.z), "=r"(vector.w)
                   : "r"(staging + ChunkOffset<Shape::kDim>(i / kChunks, chunk))
                   : "memory");
      T* to = static_cast<T*>(params.out) + (tile.first_token + own / params.group) * params.out_stride +
              (kv_head * params.group + own % params.group) * params.out_head_stride;
      *reinterpret_cast<uint4*>(to + chunk * 8) = vector;
    }
    __syncwarp();
  }

  __device__ void PackAll() {
#pragma unroll
    for (int k = 0; k < Shape::kTokens / 16; ++k) PackWeights<T>(score, k, weight[k]);
  }
};

#endif

}  // namespace berth::kernels::cuda
