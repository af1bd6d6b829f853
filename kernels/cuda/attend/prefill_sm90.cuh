#pragma once

#include <cuda.h>

#include <algorithm>
#include <initializer_list>

#include "kernels/cuda/attend/prefill_sm90_work.cuh"
#include "kernels/cuda/util/numeric.cuh"
#include "kernels/cuda/util/products_sm90.cuh"
#include "kernels/cuda/util/tensor_map.h"

// Attention of prompt chunks on Hopper, after FlashAttention-3 (Shah et al. 2024), for heads of 128. A thread block stays on
// its multiprocessor and takes one tile of rows after the other. Two groups of four warps take 64 rows each; a thread of a
// third group brings queries, and keys and values in tiles of two KV blocks, by bulk tensor copies, those of the next rows
// while the last are being finished. Where there are many tiles, the two blocks of a cluster take neighbours, and each brings
// one KV block of two, for both. A group queues a tile's scores and the values of the tile before at once; its softmax then
// hides behind the products of the other group.
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
      again[half] = PrefillRows::RowMax(sum[half] <= kMostWeight ? 0 : 1) > 0 && half * 8 + threadIdx.x % 32 / 4 < row_count;
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

// The groups queue their products in turns, so that one's softmax runs beside the other's products. Each takes a turn for every
// tile of keys but the first, whether it sees it or not.
__device__ inline int TurnBarrier(int group) { return 3 + group; }

// A group's part of one piece of work; `before`: tiles of keys that came before it.
template <typename T, int kRanks>
__device__ void Consume(const AttendParams& params, const PrefillWork& work, int before, uint32_t queries, uint32_t tiles,
                        Barrier& queries_empty, PrefillShared& shared) {
  using Shape = PrefillSm90Shape;
  const int group = threadIdx.x / 128;
  const PrefillTile& tile = work.tile;
  const int group_row = tile.first_row + group * Shape::kGroupRows, warp_row = group_row + threadIdx.x % 128 / 32 * 16;
  const int warp_first = tile.position + warp_row / params.group, warp_last = tile.position + (warp_row + 15) / params.group;
  const int group_last = tile.position + (group_row + Shape::kGroupRows - 1) / params.group;
  const bool modified = params.softcap > 0 || params.alibi_slope != nullptr;
  PrefillSm90State<T> state = {};
  state.rows.Start(params, tile, work.kv_head, warp_row);

  const uint32_t own_queries = queries + group * Shape::kGroupRows * 128;
  const auto stage_of = [&](int t) { return (before + t - work.begin) % Shape::kStages; };
  const auto keys_of = [&](int t) { return tiles + stage_of(t) * 2 * Shape::kTileBytes; };
  const auto wait = [&](Barrier(&full)[Shape::kStages], int t) {
    WaitFor(&full[stage_of(t)], (before + t - work.begin) / Shape::kStages % 2);
  };
  const auto release = [&](Barrier& empty) {
    const int lane = threadIdx.x % 32;
    if constexpr (kRanks > 1) {
      if (lane < kRanks) ArriveAt(AddressAt(SharedAddress(&empty), lane));
    } else {
      if (lane == 0) Arrive(&empty);
    }
  };
  // What is done to scores of some tokens before they are weighed.
  const auto shape = [&](int token, int tokens, auto& score) {
    if (modified) state.rows.Modify(params, token, score);
    if (token + tokens - 1 > warp_first || (params.window > 0 && token <= warp_last - params.window)) {
      state.rows.Mask(params.window, token, score);
    }
  };
  // Weighs the scores of tile t. Scores that go far beyond those before are rare, so that nobody looks for the highest: sums
  // tell. True: what was summed before has to be multiplied by `rescale`.
  const auto weigh = [&](int t, float(&rescale)[2]) {
    const int token = t * Shape::kTokens;
    shape(token, Shape::kTokens, state.score);
    state.rows.FindBase(state.score);
    float sum[2];
    state.rows.WeighAsIs(params.scale, state.score, sum);
    const bool again = __any_sync(~0u, !(sum[0] <= kMostWeight) || !(sum[1] <= kMostWeight));
    if (again) {
      state.WeighAgain(params.scale, own_queries, keys_of(t), tile.first_row + tile.rows - warp_row, sum, rescale,
                       [&](int n, float(&score)[1][4]) { shape(token + n * 8, 8, score); });
    }
    for (int half = 0; half < 2; ++half) state.rows.sum[half] += sum[half];
    return again;
  };
  const auto add_values = [&](int t) {
    wait(shared.values_full, t);
    const uint32_t values = keys_of(t) + Shape::kTileBytes;
    const int seen = tile.length - t * Shape::kTokens;
    if (seen < Shape::kTokens) ZeroValues(values, seen, threadIdx.x % 128, 1 + group);
    state.AddValues(values);
  };

  // Tiles that only the other group sees, from `from` on. This comes before the group's word that it is done with them.
  const auto pass = [&](int from) {
    for (int t = from; t < work.end; ++t) {
      wait(shared.keys_full, t);
      release(shared.keys_empty[stage_of(t)]);
      wait(shared.values_full, t);
      release(shared.values_empty[stage_of(t)]);
      if (t == work.begin) continue;
      sm90::AwaitOther(TurnBarrier(group));
      sm90::TellOther(TurnBarrier(1 - group));
    }
  };
  if (group_row >= tile.first_row + tile.rows) {
    Arrive(&queries_empty);
    return pass(work.begin);
  }

  const int end = min(work.end, group_last / Shape::kTokens + 1);
  float rescale[2];
  wait(shared.keys_full, work.begin);
  state.Score(own_queries, keys_of(work.begin));
  sm90::WaitForProducts<0>();
  sm90::Settle(state.score);
  weigh(work.begin, rescale);
  release(shared.keys_empty[stage_of(work.begin)]);
  state.PackAll();
  for (int t = work.begin + 1; t < end; ++t) {
    wait(shared.keys_full, t);
    sm90::AwaitOther(TurnBarrier(group));
    state.Score(own_queries, keys_of(t));
    add_values(t - 1);
    sm90::TellOther(TurnBarrier(1 - group));
    sm90::WaitForProducts<1>();
    sm90::Settle(state.score);
    sm90::WaitForProducts<0>();
    sm90::Settle(state.out);
    release(shared.values_empty[stage_of(t - 1)]);
    const bool again = weigh(t, rescale);
    release(shared.keys_empty[stage_of(t)]);
    if (again) Rescale(rescale, state.out);
    state.PackAll();
  }
  Arrive(&queries_empty);
  add_values(end - 1);
  sm90::WaitForProducts<0>();
  sm90::Settle(state.out);
  release(shared.values_empty[stage_of(end - 1)]);
  pass(end);
  state.Store(params, tile, work.kv_head, warp_row,
              tiles + 2 * Shape::kStages * Shape::kTileBytes + threadIdx.x / 32 * Shape::kWarpStagingBytes);
}

#endif

// Grid: a block per multiprocessor, or fewer. kRanks: blocks of a cluster, whose tiles of rows are neighbours.
template <typename T, int kRanks>
__global__ void __launch_bounds__(PrefillSm90Shape::kThreads, 1)
    PrefillAttentionSm90(const __grid_constant__ AttendParams params, const __grid_constant__ AttendEntries entries,
                         const __grid_constant__ PrefillMaps maps) {
#ifdef BERTH_HAS_SM90A
  using Shape = PrefillSm90Shape;
  extern __shared__ std::byte memory[];
  __shared__ PrefillShared shared;
  const int rank = kRanks > 1 ? ClusterRank() : 0;
  LetSuccessorStart();
  if (threadIdx.x == 0) {
    PrefetchMap(&maps.queries);
    PrefetchMap(&maps.pool);
    shared.Start(kRanks);
  }
  if constexpr (kRanks > 1) {
    SyncCluster();
  } else {
    __syncthreads();
  }
  const uint32_t queries = (SharedAddress(memory) + Shape::kAlignment - 1) / Shape::kAlignment * Shape::kAlignment;
  const uint32_t tiles = queries + Shape::kQueryStages * Shape::kQueryBytes;
  if (threadIdx.x >= Shape::kConsumers) {
    sm90::GiveRegisters<Shape::kProducerRegisters>();
    std::byte* const own = memory + (queries - SharedAddress(memory));
    if (threadIdx.x < Shape::kConsumers + 32)
      Produce<kRanks>(params, entries, maps, rank, own, own + (tiles - queries), shared);
  } else {
    sm90::TakeRegisters<Shape::kConsumerRegisters>();
    WaitForInputs();
    if (threadIdx.x >= 128) sm90::TellOther(TurnBarrier(0));
    for (int round = 0, before = 0;; ++round) {
      const int place = round % Shape::kQueryStages;
      WaitFor(&shared.queries_full[place], round / Shape::kQueryStages % 2);
      const PrefillWork work = shared.work[place];
      if (work.end == 0) break;
      Consume<T, kRanks>(params, work, before, queries + place * Shape::kQueryBytes, tiles, shared.queries_empty[place],
                         shared);
      before += work.end - work.begin;
    }
  }
  if constexpr (kRanks > 1) SyncCluster();  // until then the other block may write here
#endif
}

// From so many tiles for every multiprocessor on two blocks share keys and values. With fewer, blocks of their own end more
// evenly.
inline constexpr int64_t kPairedTiles = 8;

template <typename T>
void AttendPrefillSm90(Context& context, const AttendParams& params, const AttendEntries& entries) {
  using Shape = PrefillSm90Shape;
  constexpr int64_t kElement = sizeof(T), kRowBytes = Shape::kDim * kElement;
  const auto make = [&](CUtensorMap& map, const void* base, std::initializer_list<MapDimension> dimensions) {
    BERTH_CHECK(MapTensor(context, CU_TENSOR_MAP_DATA_TYPE_UINT16, CU_TENSOR_MAP_SWIZZLE_128B,
                          static_cast<const std::byte*>(base), dimensions, map))
        << "no tensor map of attention's inputs";
  };
  const int heads = params.kv.kv_heads;
  const auto most_work = [&](int tile_tokens) {
    return (entries.rows + int64_t{entries.count} * (tile_tokens - 1)) / tile_tokens * heads;
  };
  // Where whole tiles would leave every other multiprocessor idle, tiles are one group's rows: the other passes.
  int tile_tokens = Shape::kRows / params.group;
  if (params.group <= Shape::kGroupRows && 2 * most_work(tile_tokens) <= context.multiprocessors) {
    tile_tokens = Shape::kGroupRows / params.group;
  }
  PrefillMaps maps{.block_rows = params.kv.block_stride / kRowBytes,
                   .head_rows = params.kv.head_stride / kRowBytes,
                   .taken = static_cast<int32_t*>(context.attend.taken.data()),
                   .tile_tokens = tile_tokens};
  make(maps.queries, params.q,
       {{Shape::kDim, 0, 64},
        {int64_t{params.group} * heads, params.q_head_stride * kElement, params.group},
        {params.rows, params.q_stride * kElement, tile_tokens}});
  // The pool's size is not known here: the map bounds nothing.
  make(maps.pool, params.kv.base, {{Shape::kDim, 0, 64}, {int64_t{1} << 31, kRowBytes, kKvBlockTokens}});
  if (most_work(tile_tokens) >= kPairedTiles * context.multiprocessors) {
    constexpr int kPair = 2;
    const int64_t clusters = std::min<int64_t>(most_work(kPair * tile_tokens), context.multiprocessors / kPair);
    LaunchClusters(context, PrefillAttentionSm90<T, kPair>, kPair, dim3(static_cast<unsigned>(kPair * clusters)),
                   dim3(Shape::kThreads), Shape::kSharedBytes, params, entries, maps);
  } else {
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(most_work(tile_tokens), context.multiprocessors));
    Launch(context, PrefillAttentionSm90<T, 1>, dim3(blocks), dim3(Shape::kThreads), Shape::kSharedBytes, params, entries,
           maps);
  }
}

}  // namespace berth::kernels::cuda
