#pragma once

#include <cuda.h>

#include <algorithm>

#include "kernels/cuda/attend/prefill_rows.cuh"
#include "kernels/cuda/attend/sm90.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

// Attention of prompt chunks on Hopper, after FlashAttention-3 (Shah et al. 2024), for heads of 128. Two groups of four warps
// take 64 rows each; a thread of a third group brings the keys and values in tiles of two KV blocks by bulk tensor copies.
// While a tile's values are multiplied the next tile's scores are already queued, so that the softmax of one hides behind the
// products of the other.
namespace berth::kernels::cuda {

struct PrefillSm90Shape {
  static constexpr int kDim = 128;
  static constexpr int kGroups = 2;
  static constexpr int kGroupRows = 64;
  static constexpr int kRows = kGroups * kGroupRows;
  static constexpr int kConsumers = kGroups * 128;
  static constexpr int kThreads = kConsumers + 128;
  // The copying warps give registers to the others; a multiprocessor has 512 for four threads.
  static constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
  static constexpr int kTokens = 2 * kKvBlockTokens;
  static constexpr int kStages = 2;
  // Shared memory holds columns of 64 dimensions, 128 bytes a row.
  static constexpr int kColumns = kDim / 64;
  static constexpr int kBoxBytes = kKvBlockTokens * 128;
  static constexpr int kQueryColumn = kRows * 128;
  static constexpr int kTileColumn = kTokens * 128;
  static constexpr int kTileBytes = kColumns * kTileColumn;
  static constexpr int kQueryBytes = kColumns * kQueryColumn;
  static constexpr int kAlignment = 1024;
  static constexpr int kSharedBytes = kAlignment + kQueryBytes + 2 * kStages * kTileBytes;
};

// The pool as a tensor map sees it: rows of 128 values. Block b, kv head h: keys from row b * block_rows + h * head_rows on.
struct PrefillPool {
  CUtensorMap map;
  int64_t block_rows, head_rows;
};

#ifdef BERTH_HAS_SM90A

// Barriers in shared memory, [stage] each: a tile's keys or values have come; all warps have read them.
struct PrefillBarriers {
  uint64_t keys_full[PrefillSm90Shape::kStages], keys_empty[PrefillSm90Shape::kStages];
  uint64_t values_full[PrefillSm90Shape::kStages], values_empty[PrefillSm90Shape::kStages];
};

// Brings the tiles [begin, end). One thread.
__device__ inline void Produce(const AttendParams& params, const PrefillPool& pool, const int32_t* blocks, int kv_head,
                               int begin, int end, int length, uint32_t tiles, PrefillBarriers& barriers) {
  using Shape = PrefillSm90Shape;
  for (int tile = begin; tile < end; ++tile) {
    const int stage = (tile - begin) % Shape::kStages, use = (tile - begin) / Shape::kStages;
    const int count = min(2, (length - tile * Shape::kTokens + kKvBlockTokens - 1) / kKvBlockTokens);
    int row[2];
    for (int b = 0; b < count; ++b)
      row[b] = static_cast<int>(blocks[tile * 2 + b] * pool.block_rows + kv_head * pool.head_rows);
    for (int values = 0; values < 2; ++values) {
      const uint32_t full = SharedAddress(values ? &barriers.values_full[stage] : &barriers.keys_full[stage]);
      const uint32_t empty = SharedAddress(values ? &barriers.values_empty[stage] : &barriers.keys_empty[stage]);
      if (use > 0) sm90::Wait(empty, (use - 1) % 2);
      sm90::ArriveExpecting(full, count * Shape::kColumns * Shape::kBoxBytes);
      const uint32_t to = tiles + (stage * 2 + values) * Shape::kTileBytes;
      for (int b = 0; b < count; ++b) {
        for (int column = 0; column < Shape::kColumns; ++column) {
          sm90::CopyBox(to + column * Shape::kTileColumn + b * Shape::kBoxBytes, &pool.map, column * 64,
                        row[b] + values * kKvBlockTokens, full);
        }
      }
    }
  }
}

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

// One group's 64 rows. Its products of a tile are queued by Score and AddValues and waited for by the caller.
template <typename T>
struct PrefillSm90State {
  using Shape = PrefillSm90Shape;
  PrefillRows rows;
  float out[Shape::kDim / 8][4];
  float score[Shape::kTokens / 8][4];
  uint32_t weight[Shape::kTokens / 16][4];

  __device__ void Score(uint32_t queries, uint32_t keys) {
    sm90::FenceProducts();
#pragma unroll
    for (int k = 0; k < Shape::kDim / 16; ++k) {
      sm90::MultiplyShared<T>(score, sm90::Descriptor(queries + k / 4 * Shape::kQueryColumn + k % 4 * 32),
                              sm90::Descriptor(keys + k / 4 * Shape::kTileColumn + k % 4 * 32), k > 0);
    }
    sm90::CommitProducts();
  }

  __device__ void AddValues(uint32_t values) {
    sm90::FenceProducts();
#pragma unroll
    for (int k = 0; k < Shape::kTokens / 16; ++k) {
      sm90::MultiplyRegisters<T>(out, weight[k], sm90::Descriptor(values + k * 16 * 128, Shape::kTileColumn));
    }
    sm90::CommitProducts();
  }

  __device__ void Weigh(const AttendParams& params, bool modified, bool masked, int token, float (&rescale)[2]) {
    if (modified) rows.Modify(params, token, score);
    if (masked) rows.Mask(params.window, token, score);
    rows.Weigh(params.scale, score, rescale);
  }
  __device__ void PackAll() {
#pragma unroll
    for (int k = 0; k < Shape::kTokens / 16; ++k) PackWeights<T>(score, k, weight[k]);
  }
};

// What a group does with the tiles [begin, end).
template <typename T>
__device__ void Consume(const AttendParams& params, const PrefillTile& tile, int kv_head, int begin, int end, int length,
                        uint32_t queries, uint32_t tiles, PrefillBarriers& barriers) {
  using Shape = PrefillSm90Shape;
  const int group = threadIdx.x / 128, thread = threadIdx.x % 128;
  CopyQueries<T, Shape::kDim>(
      params, tile, kv_head, group * Shape::kGroupRows, Shape::kGroupRows, thread, 128,
      [&](int row, int chunk) { return queries + chunk / 8 * Shape::kQueryColumn + row * 128 + (chunk % 8 ^ row % 8) * 16; });
  PrefillSm90State<T> state = {};
  const int group_row = tile.first_row + group * Shape::kGroupRows, warp_row = group_row + thread / 32 * 16;
  state.rows.Start(params, tile, kv_head, warp_row);
  const int warp_first = tile.position + warp_row / params.group, warp_last = tile.position + (warp_row + 15) / params.group;
  const int group_last = tile.position + (group_row + Shape::kGroupRows - 1) / params.group;
  const bool modified = params.softcap > 0 || params.alibi_slope != nullptr;
  CommitCopies();
  WaitForCopies<0>();
  sm90::FenceShared();
  sm90::SyncWarpgroup(1 + group);

  const uint32_t own_queries = queries + group * Shape::kGroupRows * 128;
  const auto keys_of = [&](int t) { return tiles + (t - begin) % Shape::kStages * 2 * Shape::kTileBytes; };
  const auto wait = [&](uint64_t(&full)[Shape::kStages], int t) {
    sm90::Wait(SharedAddress(&full[(t - begin) % Shape::kStages]), (t - begin) / Shape::kStages % 2);
  };
  const auto release = [&](uint64_t(&empty)[Shape::kStages], int t) {
    if (threadIdx.x % 32 == 0) sm90::Arrive(SharedAddress(&empty[(t - begin) % Shape::kStages]));
  };
  const auto is_masked = [&](int t) {
    const int token = t * Shape::kTokens;
    return token + Shape::kTokens - 1 > warp_first || (params.window > 0 && token <= warp_last - params.window);
  };
  const auto add_values = [&](int t) {
    wait(barriers.values_full, t);
    const uint32_t values = keys_of(t) + Shape::kTileBytes;
    const int seen = length - t * Shape::kTokens;
    if (seen < Shape::kTokens) ZeroValues(values, seen, thread, 1 + group);
    state.AddValues(values);
  };

  const int own_end = min(end, group_last / Shape::kTokens + 1);
  float rescale[2];
  wait(barriers.keys_full, begin);
  state.Score(own_queries, keys_of(begin));
  sm90::WaitForProducts<0>();
  sm90::Settle(state.score);
  release(barriers.keys_empty, begin);
  state.Weigh(params, modified, is_masked(begin), begin * Shape::kTokens, rescale);
  state.PackAll();
  for (int t = begin + 1; t < own_end; ++t) {
    wait(barriers.keys_full, t);
    state.Score(own_queries, keys_of(t));
    add_values(t - 1);
    sm90::WaitForProducts<1>();
    sm90::Settle(state.score);
    release(barriers.keys_empty, t);
    state.Weigh(params, modified, is_masked(t), t * Shape::kTokens, rescale);
    sm90::WaitForProducts<0>();
    sm90::Settle(state.out);
    release(barriers.values_empty, t - 1);
    Rescale(rescale, state.out);
    state.PackAll();
  }
  add_values(own_end - 1);
  sm90::WaitForProducts<0>();
  sm90::Settle(state.out);
  release(barriers.values_empty, own_end - 1);
  // The other group may see a tile more. It must come before this group's word that it is done with it.
  for (int t = own_end; t < end; ++t) {
    wait(barriers.keys_full, t);
    release(barriers.keys_empty, t);
    wait(barriers.values_full, t);
    release(barriers.values_empty, t);
  }
  state.rows.template Store<T>(params, tile, kv_head, warp_row, state.out);
}

#endif

// Grid: (kv heads, an upper bound of the tiles).
template <typename T>
__global__ void __launch_bounds__(PrefillSm90Shape::kThreads, 1)
    PrefillAttentionSm90(const __grid_constant__ AttendParams params, const __grid_constant__ AttendEntries entries,
                         const __grid_constant__ PrefillPool pool) {
#ifdef BERTH_HAS_SM90A
  using Shape = PrefillSm90Shape;
  extern __shared__ std::byte shared[];
  __shared__ PrefillBarriers barriers;
  LetSuccessorStart();
  WaitForInputs();
  PrefillTile tile;
  if (!FindTile<Shape::kRows>(params, entries, blockIdx.y, tile)) return;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      sm90::InitBarrier(SharedAddress(&barriers.keys_full[stage]), 1);
      sm90::InitBarrier(SharedAddress(&barriers.values_full[stage]), 1);
      sm90::InitBarrier(SharedAddress(&barriers.keys_empty[stage]), Shape::kConsumers / 32);
      sm90::InitBarrier(SharedAddress(&barriers.values_empty[stage]), Shape::kConsumers / 32);
    }
    sm90::FenceBarriers();
  }
  __syncthreads();
  const int kv_head = blockIdx.x, length = params.context_length[tile.entry];
  const int first = tile.position + tile.first_row / params.group;
  const int last = tile.position + (tile.first_row + min(tile.rows, Shape::kRows) - 1) / params.group;
  const int begin = params.window > 0 ? max(0, first - params.window + 1) / Shape::kTokens : 0, end = last / Shape::kTokens + 1;
  const uint32_t queries = (SharedAddress(shared) + Shape::kAlignment - 1) / Shape::kAlignment * Shape::kAlignment;
  const uint32_t tiles = queries + Shape::kQueryBytes;
  if (threadIdx.x >= Shape::kConsumers) {
    sm90::GiveRegisters<Shape::kProducerRegisters>();
    if (threadIdx.x == Shape::kConsumers) {
      Produce(params, pool, params.block_table + tile.entry * params.block_table_stride, kv_head, begin, end, length, tiles,
              barriers);
    }
    return;
  }
  sm90::TakeRegisters<Shape::kConsumerRegisters>();
  Consume<T>(params, tile, kv_head, begin, end, length, queries, tiles, barriers);
#endif
}

template <typename T>
void AttendPrefillSm90(Context& context, const AttendParams& params, const AttendEntries& entries) {
  using Shape = PrefillSm90Shape;
  constexpr int64_t kRowBytes = Shape::kDim * sizeof(T);
  PrefillPool pool{.block_rows = params.kv.block_stride / kRowBytes, .head_rows = params.kv.head_stride / kRowBytes};
  // The pool's size is not known here: the map bounds nothing.
  const cuuint64_t size[] = {Shape::kDim, cuuint64_t{1} << 31}, stride[] = {kRowBytes};
  const cuuint32_t box[] = {64, kKvBlockTokens}, step[] = {1, 1};
  const CUtensorMapDataType type =
      params.kv.dtype == DType::kBF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(context.attend.encode_tensor_map);
  const CUresult result =
      encode(&pool.map, type, 2, params.kv.base, size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  BERTH_CHECK(result == CUDA_SUCCESS) << "no tensor map of the KV pool: error " << static_cast<int>(result);
  const auto kernel = &PrefillAttentionSm90<T>;
  context.Note(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::kSharedBytes),
               "prefill attention's shared memory");
  const int64_t tiles = int64_t{entries.rows} * params.group / Shape::kRows + entries.count;
  Launch(context, kernel, dim3(params.kv.kv_heads, tiles), dim3(Shape::kThreads), Shape::kSharedBytes, params, entries, pool);
}

}  // namespace berth::kernels::cuda
