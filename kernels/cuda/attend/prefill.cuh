#pragma once

#include "kernels/cuda/attend/prefill_rows.cuh"
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

// Rows behind the tile's last repeat it.
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

// One warp's rows.
template <typename T, int kDim>
struct PrefillState {
  using Shape = PrefillShape<kDim>;
  static constexpr int kRowTiles = Shape::kRowTiles, kColumnTiles = Shape::kTokens / 8;

  PrefillRows rows[kRowTiles];
  float out[kRowTiles][kDim / 8][4];

  // score = queries · keysᵀ
  __device__ void Score(uint32_t queries, uint32_t keys, float (&score)[kRowTiles][kColumnTiles][4]) const {
    const int lane = threadIdx.x % 32;
    for (auto& tile : score) {
      for (auto& column : tile) {
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
          Mma<T>(score[m][n], a[m], b[0], b[1]);
          Mma<T>(score[m][n + 1], a[m], b[2], b[3]);
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
      for (int m = 0; m < kRowTiles; ++m) PackWeights<T>(weight[m], k, a[m]);
#pragma unroll
      for (int n = 0; n < kDim / 8; n += 2) {
        uint32_t b[4];
        LoadMatricesTransposed(b, values + ChunkOffset<kDim>(k * 16 + lane % 16, n + lane / 16));
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          Mma<T>(out[m][n], a[m], b[0], b[1]);
          Mma<T>(out[m][n + 1], a[m], b[2], b[3]);
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
  if (!entries.inputs_ready) WaitForInputs();
  PrefillTile tile;
  int tile_count;
  if (!FindTile(params, entries, Shape::kRows, blockIdx.y, tile, tile_count)) return;
  const int kv_head = blockIdx.x, warp = threadIdx.x / 32, length = tile.length;
  const int32_t* blocks = params.block_table + tile.entry * params.block_table_stride;
  const uint32_t queries = SharedAddress(shared), tiles = queries + Shape::kQueryBytes;

  const int first = tile.position + tile.first_row / params.group;
  const int last = tile.position + (tile.first_row + tile.rows - 1) / params.group;
  const int begin = params.window > 0 ? max(0, first - params.window + 1) / Shape::kTokens : 0, end = last / Shape::kTokens + 1;
  const auto block_at = [&](int key_tile) { return blocks[min(key_tile, end - 1) * Shape::kTokens / kKvBlockTokens]; };
  CopyQueries<T, kDim>(params, tile, kv_head, queries);
  CopyTile<kDim>(params.kv, kv_head, block_at(begin), begin * Shape::kTokens, length, tiles);
  CommitCopies();
  int next_block = block_at(begin + 1);

  PrefillState<T, kDim> state = {};
  const int warp_row = tile.first_row + warp * Shape::kWarpRows;
  for (int m = 0; m < Shape::kRowTiles; ++m) state.rows[m].Start(params, tile, kv_head, warp_row + m * 16);
  const bool modified = params.softcap > 0 || params.alibi_slope != nullptr;
  const int warp_first = tile.position + warp_row / params.group;
  const int warp_last = tile.position + (warp_row + Shape::kWarpRows - 1) / params.group;
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
    const bool masked = token + Shape::kTokens - 1 > warp_first || (params.window > 0 && token <= warp_last - params.window);
#pragma unroll
    for (int m = 0; m < Shape::kRowTiles; ++m) {
      if (modified) state.rows[m].Modify(params, token, score[m]);
      if (masked) state.rows[m].Mask(params.window, token, score[m]);
      float rescale[2];
      state.rows[m].Weigh(params.scale, score[m], rescale);
      Rescale(rescale, state.out[m]);
    }
    state.AddValues(score, keys + Shape::kHalfBytes);
  }
  for (int m = 0; m < Shape::kRowTiles; ++m) {
    state.rows[m].template Store<T>(params, tile, kv_head, warp_row + m * 16, state.out[m]);
  }
  if (entries.inputs_ready) WaitForInputs();
}

template <typename T>
void AttendPrefill(Context& context, const AttendParams& params, const AttendEntries& entries) {
  const auto launch = [&](auto dim) {
    constexpr int kDim = dim;
    using Shape = PrefillShape<kDim>;
    const auto kernel = &PrefillAttention<T, kDim>;
    const int64_t tiles = int64_t{entries.rows} * params.group / Shape::kRows + entries.count;
    Launch(context, kernel, dim3(params.kv.kv_heads, tiles), dim3(Shape::kThreads), Shape::kSharedBytes, params, entries);
  };
  WithTensorCoreHead(params.kv.key_dim, launch);
}

}  // namespace berth::kernels::cuda
