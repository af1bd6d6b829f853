#pragma once

#include <cuda.h>

#include <algorithm>
#include <initializer_list>

#include "kernels/cuda/attend/prefill_sm90_state.cuh"
#include "kernels/cuda/attend/prefill_sm90_work.cuh"
#include "kernels/cuda/util/tensor_map.h"

// Attention of prompt chunks on Hopper, after FlashAttention-3 (Shah et al. 2024), for heads of 128. A thread block stays on
// its multiprocessor and takes one tile of rows after the other. Two groups of four warps take 64 rows each; a thread of a
// third group brings queries, and keys and values in tiles of two KV blocks, by bulk tensor copies, those of the next rows
// while the last are being finished. Where there are many tiles, the two blocks of a cluster take neighbours, and each brings
// one KV block of two, for both. A group queues a tile's scores and the values of the tile before at once; its softmax then
// hides behind the products of the other group.
namespace berth::kernels::cuda {

#ifdef BERTH_HAS_SM90A

// The groups queue their products in turns, so that one's softmax runs beside the other's products. Each takes a turn for every
// tile of keys but the first, whether it sees it or not.
__device__ inline int TurnBarrier(int group) { return 3 + group; }

// A group's part of one piece of work; `before`: tiles of keys that came before it.
template <typename T, int kRanks>
__device__ void Consume(const AttendParams& params, const PrefillWork& work, int before, uint32_t queries, uint32_t tiles,
                        Barrier& queries_empty, PrefillShared& shared) {
  using Shape = PrefillSm90Shape;
  const int group = sm90::Warpgroup();
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
    const bool again = __any_sync(~0u, IsTooMuch(sum[0]) || IsTooMuch(sum[1]));
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
    if (!entries.inputs_ready) WaitForInputs();
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
  if (entries.inputs_ready) WaitForInputs();
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
