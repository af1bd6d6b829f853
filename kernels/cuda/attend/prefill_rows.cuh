#pragma once

#include "kernels/cuda/attend/params.h"
#include "kernels/cuda/attend/sm80.cuh"

// What the prefill kernels share. A row is one query head of one token, and the heads of a group lie side by side: row r of an
// entry is token r / group, head r % group of the group.
namespace berth::kernels::cuda {

// The rows of one thread block.
struct PrefillTile {
  int entry;
  int first_row;    // of the entry, in units of (token, query head of the group)
  int rows;         // at least 1
  int first_token;  // of the entry, its row in the batch
  int position;     // of the entry's first token
  int length;       // the entry's context
};

// Finds tile `index` of all entries', or how many `tiles` there are if it is none of them. Each entry's last tile, which sees
// the most, comes first. All lanes of a warp call it together.
__device__ inline bool FindTile(const AttendParams& params, const AttendEntries& entries, int tile_rows, int index,
                                PrefillTile& tile, int& tiles) {
  const int lane = threadIdx.x % 32;
  tiles = 0;
  for (int base = 0; base < entries.count; base += 32) {
    int start = 0, rows = 0, length = 0;
    if (base + lane < entries.count) {
      const int entry = entries.first + base + lane;
      start = params.query_start[entry];
      rows = (params.query_start[entry + 1] - start) * params.group;
      length = params.context_length[entry];
    }
    int sum = (rows + tile_rows - 1) / tile_rows;
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_up_sync(~0u, sum, offset);
      if (lane >= offset) sum += other;
    }
    const unsigned behind = __ballot_sync(~0u, tiles + sum > index);
    if (behind == 0) {
      tiles += __shfl_sync(~0u, sum, 31);
      continue;
    }
    const int found = __ffs(behind) - 1;
    tile.entry = entries.first + base + found;
    tile.first_row = (tiles + __shfl_sync(~0u, sum, found) - 1 - index) * tile_rows;
    tile.rows = min(__shfl_sync(~0u, rows, found) - tile.first_row, tile_rows);
    tile.first_token = __shfl_sync(~0u, start, found);
    tile.length = __shfl_sync(~0u, length, found);
    tile.position = tile.length - __shfl_sync(~0u, rows, found) / params.group;
    return true;
  }
  return false;
}

// 16 rows of a warp and the running softmax over their scores, which lie like C in mma.cuh: thread (g, t) holds rows g and g
// + 8. Scores are in units of the product; `scale` and a power of e come last.
struct PrefillRows {
  int position[2];
  float slope[2];
  float highest[2], sum[2];  // the sum is over this thread's columns

  // `row`: of the entry, the first of the 16.
  __device__ void Start(const AttendParams& params, const PrefillTile& tile, int kv_head, int row) {
    for (int half = 0; half < 2; ++half) {
      const int own = row + half * 8 + threadIdx.x % 32 / 4;
      position[half] = tile.position + own / params.group;
      slope[half] = params.alibi_slope == nullptr ? 0 : params.alibi_slope[kv_head * params.group + own % params.group];
      highest[half] = -INFINITY;
      sum[half] = 0;
    }
  }

  // Soft cap and ALiBi.
  template <int kColumns>
  __device__ void Modify(const AttendParams& params, int token, float (&score)[kColumns][4]) const {
    const int column = token + threadIdx.x % 4 * 2;
    const float softness = Reciprocal(params.softcap), unscale = Reciprocal(params.scale);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float x = score[n][i] * params.scale;
        if (params.softcap > 0) x = params.softcap * Tanh(x * softness);
        x += slope[i / 2] * static_cast<float>(column + n * 8 + i % 2 - position[i / 2]);
        score[n][i] = x * unscale;
      }
    }
  }

  template <int kColumns>
  __device__ void Mask(int window, int token, float (&score)[kColumns][4]) const {
    const int column = token + threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int distance = position[i / 2] - (column + n * 8 + i % 2);
        if (distance < 0 || (window > 0 && distance >= window)) score[n][i] = -INFINITY;
      }
    }
  }

  // Of the row's scores in these columns.
  template <int kColumns>
  __device__ static float Highest(const float (&score)[kColumns][4], int half) {
    float top = -INFINITY;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) top = fmaxf(top, fmaxf(score[n][half * 2], score[n][half * 2 + 1]));
    return RowMax(top);
  }

  // Over the four lanes that have a row.
  __device__ static float RowMax(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
  }

  // What the exponents of a row's weights are relative to. A row that has seen nothing yet has no highest score.
  __device__ float Base(int half, float scale_log2) const {
    return highest[half] == -INFINITY ? 0 : __fmul_rn(highest[half], scale_log2);
  }

  // Moves a row's base; what was summed before has to be multiplied by what it returns. Unfused: a row whose base stays is
  // rescaled by one to the bit, so that tiles it does not see change nothing.
  __device__ float MoveBase(int half, float to, float scale_log2) {
    const float before = __fmul_rn(highest[half], scale_log2);
    highest[half] = to;
    return Exp2(before - Base(half, scale_log2));
  }

  // Turns scores into weights relative to a base that follows the highest score so far; what was summed before has to be
  // multiplied by `rescale`.
  template <int kColumns>
  __device__ void Weigh(float scale, float (&score)[kColumns][4], float (&rescale)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = fmaxf(highest[half], Highest(score, half));
      // Weights up to 2^8 are as exact as those up to one, so that a base that is little below need not follow.
      if ((top - highest[half]) * scale * kLog2E <= kBaseLag) top = highest[half];
      rescale[half] = MoveBase(half, top, scale * kLog2E);
    }
    float tile_sum[2];
    WeighAsIs(scale, score, tile_sum);
    for (int half = 0; half < 2; ++half) sum[half] = sum[half] * rescale[half] + tile_sum[half];
  }

  // Gives rows that have seen nothing yet a base.
  template <int kColumns>
  __device__ void FindBase(const float (&score)[kColumns][4]) {
    if (!__any_sync(~0u, highest[0] == -INFINITY || highest[1] == -INFINITY)) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float top = Highest(score, half);
      if (highest[half] == -INFINITY) highest[half] = top;
    }
  }

  // Turns scores into weights relative to the base as it is, and adds them up. Those that it cannot hold become infinite.
  template <int kColumns>
  __device__ void WeighAsIs(float scale, float (&score)[kColumns][4], float (&tile_sum)[2]) const {
    const float scale_log2 = scale * kLog2E;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float base = Base(half, scale_log2);
      tile_sum[half] = 0;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = half * 2; i < half * 2 + 2; ++i) {
          score[n][i] = Exp2(fmaf(score[n][i], scale_log2, -base));
          tile_sum[half] += score[n][i];
        }
      }
    }
  }

  // The reciprocal of the row's sum.
  __device__ float Factor(int half) const {
    float total = sum[half];
    total += __shfl_xor_sync(~0u, total, 1);
    total += __shfl_xor_sync(~0u, total, 2);
    return Reciprocal(total);
  }

  template <typename T, int kColumns>
  __device__ void Store(const AttendParams& params, const PrefillTile& tile, int kv_head, int row,
                        const float (&out)[kColumns][4]) const {
    for (int half = 0; half < 2; ++half) {
      const float factor = Factor(half);
      const int own = row + half * 8 + threadIdx.x % 32 / 4;
      if (own >= tile.first_row + tile.rows) continue;
      T* to = static_cast<T*>(params.out) + (tile.first_token + own / params.group) * params.out_stride +
              (kv_head * params.group + own % params.group) * params.out_head_stride + threadIdx.x % 4 * 2;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        *reinterpret_cast<uint32_t*>(to + n * 8) = Pack<T>(out[n][half * 2] * factor, out[n][half * 2 + 1] * factor);
      }
    }
  }
};

template <int kColumns>
__device__ void Rescale(const float (&rescale)[2], float (&out)[kColumns][4]) {
  if (!__any_sync(~0u, rescale[0] != 1 || rescale[1] != 1)) return;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[n][i] *= rescale[i / 2];
  }
}

// A operand of the weights in columns 16 k to 16 k + 15.
template <typename T, int kColumns>
__device__ void PackWeights(const float (&weight)[kColumns][4], int k, uint32_t (&a)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = Pack<T>(weight[2 * k + i / 2][i % 2 * 2], weight[2 * k + i / 2][i % 2 * 2 + 1]);
}

}  // namespace berth::kernels::cuda
