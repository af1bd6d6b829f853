#pragma once

#include <type_traits>

#include "kernels/cuda/attend/mma.cuh"
#include "kernels/cuda/attend/params.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

// Attention of prompt chunks, after FlashAttention-2 (Dao 2023). A thread block takes one kv head and a tile of rows, where a
// row is one query head of one token and the heads of a group lie side by side: row r of an entry is token r / group, head r %
// group of the group. It walks over the entry's keys in tiles that lie within a KV block; the copies of a tile run while the
// one before is multiplied. Tiles with the longest walk come first.
namespace berth::kernels::cuda {

template <int kDim>
struct PrefillShape {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRowTiles = kDim <= 128 ? 2 : 1;  // of 16 rows, per warp
  static constexpr int kWarpRows = kRowTiles * 16;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kTokens = kDim <= 128 ? 64 : 32;  // of a key tile
  static constexpr int kHalfBytes = kTokens * kDim * 2;  // a tile's keys, or its values
  static constexpr int kQueryBytes = kRows * kDim * 2;
  static constexpr int kSharedBytes = kQueryBytes + 2 * 2 * kHalfBytes;
  static_assert(kSharedBytes <= 96 << 10);
};

// The rows of one thread block.
struct PrefillTile {
  int entry;
  int first_row;    // of the entry, in units of (token, query head of the group)
  int rows;         // that the entry has from there on, at least 1
  int first_token;  // of the entry, its row in the batch
  int position;     // of the entry's first token
};

// Finds tile `index` of the grid; false where there is none. Each entry's last tile, which sees the most, comes first.
template <int kRows>
__device__ bool FindTile(const AttendParams& params, const AttendEntries& entries, int index, PrefillTile& tile) {
  const int lane = threadIdx.x % 32;
  for (int base = 0; base < entries.count; base += 32) {
    int rows = 0;
    if (base + lane < entries.count) {
      const int32_t* start = params.query_start + entries.first + base + lane;
      rows = (start[1] - start[0]) * params.group;
    }
    const int tiles = (rows + kRows - 1) / kRows;
    int sum = tiles;
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_up_sync(~0u, sum, offset);
      if (lane >= offset) sum += other;
    }
    const unsigned behind = __ballot_sync(~0u, sum > index);
    if (behind == 0) {
      index -= __shfl_sync(~0u, sum, 31);
      continue;
    }
    const int found = __ffs(behind) - 1;
    tile.entry = entries.first + base + found;
    tile.first_row = (__shfl_sync(~0u, sum, found) - 1 - index) * kRows;
    tile.rows = __shfl_sync(~0u, rows, found) - tile.first_row;
    tile.first_token = params.query_start[tile.entry];
    tile.position = params.position[tile.first_token];
    return true;
  }
  return false;
}

template <typename T, int kDim>
__device__ void CopyQueries(const AttendParams& params, const PrefillTile& tile, int kv_head, uint32_t to) {
  using Shape = PrefillShape<kDim>;
  constexpr int kChunks = kDim / 8;
  const T* q = static_cast<const T*>(params.q) + tile.first_token * params.q_stride;
#pragma unroll 4
  for (int i = threadIdx.x; i < Shape::kRows * kChunks; i += Shape::kThreads) {
    const int row = i / kChunks, chunk = i % kChunks, r = tile.first_row + min(row, tile.rows - 1);
    const T* from = q + r / params.group * params.q_stride + (kv_head * params.group + r % params.group) * params.q_head_stride;
    CopyAsync(to + ChunkOffset<kDim>(row, chunk), from + chunk * 8, true);
  }
}

// Keys and values from `token` on, zeros from `length` on: what lies there may be NaN.
template <int kDim>
__device__ void CopyTile(const KvLayer& kv, int kv_head, int block, int token, int length, uint32_t to) {
  using Shape = PrefillShape<kDim>;
  constexpr int kChunks = kDim / 8;
  const std::byte* keys = kv.base + block * kv.block_stride + kv_head * kv.head_stride + token % kKvBlockTokens * (kDim * 2);
  const std::byte* values = keys + kKvBlockTokens * kDim * 2;
#pragma unroll
  for (int i = 0; i < Shape::kTokens * kChunks / Shape::kThreads; ++i) {
    const int item = i * Shape::kThreads + threadIdx.x, row = item / kChunks, chunk = item % kChunks;
    const uint32_t place = to + ChunkOffset<kDim>(row, chunk);
    CopyAsync(place, keys + item * 16, token + row < length);
    CopyAsync(place + Shape::kHalfBytes, values + item * 16, token + row < length);
  }
}

// One warp's rows and their running softmax. Thread (g, t) holds rows g and g + 8 of every 16.
template <typename T, int kDim>
struct PrefillState {
  using Shape = PrefillShape<kDim>;
  static constexpr int kRowTiles = Shape::kRowTiles, kColumnTiles = Shape::kTokens / 8;

  float out[kRowTiles][kDim / 8][4];
  float highest[kRowTiles][2], sum[kRowTiles][2];  // in units of the product; the sum is over this thread's columns
  int position[kRowTiles][2];

  __device__ void Start(const PrefillTile& tile, int group) {
    const int lane = threadIdx.x % 32;
    for (int m = 0; m < kRowTiles; ++m) {
      for (int half = 0; half < 2; ++half) {
        const int row = tile.first_row + threadIdx.x / 32 * Shape::kWarpRows + m * 16 + half * 8 + lane / 4;
        position[m][half] = tile.position + row / group;
        highest[m][half] = -INFINITY;
        sum[m][half] = 0;
      }
      for (auto& column : out[m]) {
        for (float& x : column) x = 0;
      }
    }
  }

  // score = queries · keysᵀ
  __device__ void Score(uint32_t queries, uint32_t keys, float (&score)[kRowTiles][kColumnTiles][4]) const {
    const int lane = threadIdx.x % 32;
    for (auto& rows : score) {
      for (auto& column : rows) {
        for (float& x : column) x = 0;
      }
    }
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        LoadMatrices(a[m], queries + ChunkOffset<kDim>(m * 16 + lane % 16, 2 * k + lane / 16));
      }
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        uint32_t b[4];
        LoadMatrices(b, keys + ChunkOffset<kDim>(n * 8 + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          Multiply<T>(score[m][n], a[m], b[0], b[1]);
          Multiply<T>(score[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  // Soft cap and ALiBi. Scores stay in units of the product, so that one factor turns them into exponents of two.
  __device__ void Modify(const AttendParams& params, const float (&slope)[kRowTiles][2], int token,
                         float (&score)[kRowTiles][kColumnTiles][4]) const {
    const int column = token + threadIdx.x % 4 * 2;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float x = score[m][n][i] * params.scale;
          if (params.softcap > 0) x = params.softcap * Tanh(x / params.softcap);
          x += slope[m][i / 2] * static_cast<float>(column + n * 8 + i % 2 - position[m][i / 2]);
          score[m][n][i] = x / params.scale;
        }
      }
    }
  }

  __device__ void Mask(int window, int token, float (&score)[kRowTiles][kColumnTiles][4]) const {
    const int column = token + threadIdx.x % 4 * 2;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int distance = position[m][i / 2] - (column + n * 8 + i % 2);
          if (distance < 0 || (window > 0 && distance >= window)) score[m][n][i] = -INFINITY;
        }
      }
    }
  }

  // Turns scores into weights relative to the highest score so far, and what was summed before with them.
  __device__ void Softmax(float scale_log2, float (&score)[kRowTiles][kColumnTiles][4]) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float tile_highest = highest[m][half];
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
          tile_highest = fmaxf(tile_highest, fmaxf(score[m][n][half * 2], score[m][n][half * 2 + 1]));
        }
        tile_highest = fmaxf(tile_highest, __shfl_xor_sync(~0u, tile_highest, 1));
        tile_highest = fmaxf(tile_highest, __shfl_xor_sync(~0u, tile_highest, 2));
        // A row that has seen nothing yet has no highest score.
        const float base = tile_highest == -INFINITY ? 0 : tile_highest * scale_log2;
        const float rescale = Exp2(highest[m][half] * scale_log2 - base);
        highest[m][half] = tile_highest;
        float tile_sum = 0;
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
          for (int i = half * 2; i < half * 2 + 2; ++i) {
            score[m][n][i] = Exp2(fmaf(score[m][n][i], scale_log2, -base));
            tile_sum += score[m][n][i];
          }
        }
        sum[m][half] = sum[m][half] * rescale + tile_sum;
        if (__any_sync(~0u, rescale != 1)) {
#pragma unroll
          for (int n = 0; n < kDim / 8; ++n) {
            out[m][n][half * 2] *= rescale;
            out[m][n][half * 2 + 1] *= rescale;
          }
        }
      }
    }
  }

  // out += weights · values
  __device__ void AddValues(const float (&weight)[kRowTiles][kColumnTiles][4], uint32_t values) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < kColumnTiles / 2; ++k) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          a[m][i] = Pack<T>(weight[m][2 * k + i / 2][i % 2 * 2], weight[m][2 * k + i / 2][i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < kDim / 8; n += 2) {
        uint32_t b[4];
        LoadMatricesTransposed(b, values + ChunkOffset<kDim>(k * 16 + lane % 16, n + lane / 16));
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          Multiply<T>(out[m][n], a[m], b[0], b[1]);
          Multiply<T>(out[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  __device__ void Store(const AttendParams& params, const PrefillTile& tile, int kv_head) {
    const int lane = threadIdx.x % 32;
    for (int m = 0; m < kRowTiles; ++m) {
      for (int half = 0; half < 2; ++half) {
        float total = sum[m][half];
        total += __shfl_xor_sync(~0u, total, 1);
        total += __shfl_xor_sync(~0u, total, 2);
        const int row = threadIdx.x / 32 * Shape::kWarpRows + m * 16 + half * 8 + lane / 4;
        if (row >= tile.rows) continue;
        const int r = tile.first_row + row;
        T* to = static_cast<T*>(params.out) + (tile.first_token + r / params.group) * params.out_stride +
                (kv_head * params.group + r % params.group) * params.out_head_stride + lane % 4 * 2;
        const float factor = 1 / total;
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
          *reinterpret_cast<uint32_t*>(to + n * 8) = Pack<T>(out[m][n][half * 2] * factor, out[m][n][half * 2 + 1] * factor);
        }
      }
    }
  }
};

// Grid: (kv heads, an upper bound of the tiles).
template <typename T, int kDim>
__global__ void __launch_bounds__(PrefillShape<kDim>::kThreads, 2)
    PrefillAttention(const __grid_constant__ AttendParams params, const __grid_constant__ AttendEntries entries) {
  using Shape = PrefillShape<kDim>;
  extern __shared__ __align__(128) std::byte shared[];
  LetSuccessorStart();
  WaitForInputs();
  PrefillTile tile;
  if (!FindTile<Shape::kRows>(params, entries, blockIdx.y, tile)) return;
  const int kv_head = blockIdx.x, warp = threadIdx.x / 32, length = params.context_length[tile.entry];
  const int32_t* blocks = params.block_table + tile.entry * params.block_table_stride;
  const uint32_t queries = SharedAddress(shared), tiles = queries + Shape::kQueryBytes;

  const int first = tile.position + tile.first_row / params.group;
  const int last = tile.position + (tile.first_row + min(tile.rows, Shape::kRows) - 1) / params.group;
  const int begin = params.window > 0 ? max(0, first - params.window + 1) / Shape::kTokens : 0, end = last / Shape::kTokens + 1;
  const auto block_at = [&](int key_tile) { return blocks[min(key_tile, end - 1) * Shape::kTokens / kKvBlockTokens]; };
  CopyQueries<T, kDim>(params, tile, kv_head, queries);
  CopyTile<kDim>(params.kv, kv_head, block_at(begin), begin * Shape::kTokens, length, tiles);
  CommitCopies();
  int next_block = block_at(begin + 1);

  PrefillState<T, kDim> state;
  state.Start(tile, params.group);
  float slope[Shape::kRowTiles][2] = {};
  if (params.alibi_slope != nullptr) {
    for (int m = 0; m < Shape::kRowTiles; ++m) {
      for (int half = 0; half < 2; ++half) {
        const int row = tile.first_row + warp * Shape::kWarpRows + m * 16 + half * 8 + threadIdx.x % 32 / 4;
        slope[m][half] = params.alibi_slope[kv_head * params.group + row % params.group];
      }
    }
  }
  const bool modified = params.softcap > 0 || params.alibi_slope != nullptr;
  const int warp_first = tile.position + (tile.first_row + warp * Shape::kWarpRows) / params.group;
  const int warp_last = tile.position + (tile.first_row + (warp + 1) * Shape::kWarpRows - 1) / params.group;
  for (int key_tile = begin; key_tile < end; ++key_tile) {
    WaitForCopies<0>();
    __syncthreads();
    const int token = key_tile * Shape::kTokens;
    const uint32_t keys = tiles + (key_tile - begin) % 2 * 2 * Shape::kHalfBytes;
    if (key_tile + 1 < end) {
      CopyTile<kDim>(params.kv, kv_head, next_block, token + Shape::kTokens, length,
                     tiles + (key_tile + 1 - begin) % 2 * 2 * Shape::kHalfBytes);
      CommitCopies();
      next_block = block_at(key_tile + 2);
    }
    if (token > warp_last) continue;
    float score[Shape::kRowTiles][Shape::kTokens / 8][4];
    state.Score(queries + warp * Shape::kWarpRows * kDim * 2, keys, score);
    if (modified) state.Modify(params, slope, token, score);
    if (token + Shape::kTokens - 1 > warp_first || (params.window > 0 && token <= warp_last - params.window)) {
      state.Mask(params.window, token, score);
    }
    state.Softmax(params.scale * kLog2E, score);
    state.AddValues(score, keys + Shape::kHalfBytes);
  }
  state.Store(params, tile, kv_head);
}

template <typename T>
void AttendPrefill(Context& context, const AttendParams& params, const AttendEntries& entries) {
  const auto launch = [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    using Shape = PrefillShape<kDim>;
    const auto kernel = &PrefillAttention<T, kDim>;
    context.Note(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::kSharedBytes),
                 "prefill attention's shared memory");
    const int64_t tiles = int64_t{entries.rows} * params.group / Shape::kRows + entries.count;
    Launch(context, kernel, dim3(params.kv.kv_heads, tiles), dim3(Shape::kThreads), Shape::kSharedBytes, params, entries);
  };
  switch (params.kv.key_dim) {
    case 64:
      return launch(std::integral_constant<int, 64>());
    case 96:
      return launch(std::integral_constant<int, 96>());
    case 128:
      return launch(std::integral_constant<int, 128>());
    case 256:
      return launch(std::integral_constant<int, 256>());
  }
}

}  // namespace berth::kernels::cuda
