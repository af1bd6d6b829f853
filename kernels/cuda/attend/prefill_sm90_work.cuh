#pragma once

#include <cuda.h>

#include "kernels/cuda/attend/prefill_rows.cuh"
#include "kernels/cuda/attend/sm90.cuh"
#include "kernels/cuda/util/cluster.cuh"
#include "kernels/cuda/util/launch.cuh"

// What a block of the Hopper prefill kernel works on, and the warp that finds and copies it. See prefill_sm90.cuh.
namespace berth::kernels::cuda {

struct PrefillSm90Shape {
  static constexpr int kDim = 128;
  static constexpr int kGroups = 2;
  static constexpr int kGroupRows = 64;
  static constexpr int kRows = kGroups * kGroupRows;
  static constexpr int kConsumers = kGroups * 128;
  static constexpr int kThreads = kConsumers + 128;
  // The copying warps give registers to the others; a multiprocessor has 512 for four threads.
  static constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;
  static constexpr int kTokens = 2 * kKvBlockTokens;
  static constexpr int kStages = 2;
  static constexpr int kQueryStages = 2;  // those of the next work come while the last rows are being finished
  // Shared memory holds columns of 64 dimensions, 128 bytes a row.
  static constexpr int kColumns = kDim / 64;
  static constexpr int kBoxBytes = kKvBlockTokens * 128;
  static constexpr int kQueryColumn = kRows * 128;
  static constexpr int kTileColumn = kTokens * 128;
  static constexpr int kTileBytes = kColumns * kTileColumn;
  static constexpr int kQueryBytes = kColumns * kQueryColumn;
  static constexpr int kAlignment = 1024;
  static constexpr int kWarpStagingBytes = 16 * kDim * 2;  // a warp's rows on their way out
  static constexpr int kSharedBytes =
      kAlignment + kQueryStages * kQueryBytes + 2 * kStages * kTileBytes + kConsumers / 32 * kWarpStagingBytes;
};

struct PrefillMaps {
  CUtensorMap queries;  // [rows, heads, 128] in boxes of tile_tokens, a group and 64
  CUtensorMap pool;     // rows of 128 values. Block b, kv head h: keys from row b * block_rows + h * head_rows on
  int64_t block_rows, head_rows;
  int32_t* taken;   // work that was taken beside each cluster's first; 0 between launches
  int tile_tokens;  // whole tokens of a group that 128 or 64 rows hold
};

#ifdef BERTH_HAS_SM90A

// A tile of rows and the key tiles [begin, end) that are walked for it: what it sees, and what the cluster's other tile does.
struct PrefillWork {
  PrefillTile tile;  // of the second block of a cluster possibly without rows
  int kv_head, begin;
  int end;  // 0: there is nothing more to do
};

// How many pieces of work the first block of a cluster may be ahead of the second. When it takes one, it has begun to copy
// all before, and so knows that the second has the one before the last two.
inline constexpr int kWorkAhead = 4;

// Shared memory beside the tiles. Barriers: what was copied has come; all warps have read it. [stage] for keys and values.
struct PrefillShared {
  Barrier queries_full[PrefillSm90Shape::kQueryStages], queries_empty[PrefillSm90Shape::kQueryStages];
  Barrier keys_full[PrefillSm90Shape::kStages], keys_empty[PrefillSm90Shape::kStages];
  Barrier values_full[PrefillSm90Shape::kStages], values_empty[PrefillSm90Shape::kStages];
  PrefillWork work[PrefillSm90Shape::kQueryStages];  // comes with the queries
  Barrier next_full[kWorkAhead];
  int next[kWorkAhead];  // of the second block of a cluster: numbers of the work that the first took

  // `ranks`: blocks of the cluster, which copy keys and values for all of it.
  __device__ void Start(int ranks) {
    const auto init = [](auto& barriers, int count) {
      for (Barrier& barrier : barriers) InitBarrier(&barrier, count);
    };
    for (auto* full : {&queries_full, &keys_full, &values_full}) init(*full, 1);
    for (auto* empty : {&keys_empty, &values_empty}) init(*empty, ranks * PrefillSm90Shape::kConsumers / 32);
    init(queries_empty, PrefillSm90Shape::kConsumers);  // every thread has read `work`
    init(next_full, 1);
    PublishBarriers();
  }
};

// The number of a cluster's next piece of work, of the `turn`-th after its first. All lanes of a warp call it together, of both
// blocks of a cluster in the same turns.
template <int kRanks>
__device__ int NextWork(const PrefillMaps& maps, int rank, int turn, PrefillShared& shared) {
  int index = 0;
  if (threadIdx.x % 32 == 0) {
    const int slot = turn % kWorkAhead;
    if (rank == 0) {
      index = static_cast<int>(gridDim.x) / kRanks + atomicAdd(maps.taken, 1);
      if constexpr (kRanks > 1) {
        StoreAsync(AddressAt(SharedAddress(&shared.next[slot]), 1), __int_as_float(index),
                   AddressAt(SharedAddress(&shared.next_full[slot]), 1));
      }
    } else {
      ArriveAndExpect(&shared.next_full[slot], sizeof(int));
      WaitForCluster(&shared.next_full[slot], turn / kWorkAhead % 2);
      index = *const_cast<volatile int*>(&shared.next[slot]);
    }
  }
  return __shfl_sync(~0u, index, 0);
}

// Work `index`: tiles of rows with the longest walk come first, the heads of one side by side. Who does what changes from run
// to run, and nothing that comes out. All lanes of a warp call it together.
template <int kRanks>
__device__ PrefillWork FindWork(const AttendParams& params, const AttendEntries& entries, const PrefillMaps& maps, int rank,
                                int index) {
  using Shape = PrefillSm90Shape;
  const int heads = params.kv.kv_heads, rows = maps.tile_tokens * params.group;
  PrefillWork work = {};
  work.kv_head = index % heads;
  int tiles;
  if (!FindTile(params, entries, kRanks * rows, index / heads, work.tile, tiles)) {
    // Every cluster comes once in vain, the last one of them tidies up.
    if (rank == 0 && index == tiles * heads + static_cast<int>(gridDim.x) / kRanks - 1) *maps.taken = 0;
    return work;
  }
  PrefillTile& tile = work.tile;
  const int first = tile.position + tile.first_row / params.group;
  const int last = tile.position + (tile.first_row + tile.rows - 1) / params.group;
  work.begin = params.window > 0 ? max(0, first - params.window + 1) / Shape::kTokens : 0;
  work.end = last / Shape::kTokens + 1;
  tile.first_row += rank * rows;
  tile.rows = max(0, min(rows, tile.rows - rank * rows));
  return work;
}

// Brings the queries, keys and values of all of this block's work. One warp, whose first lane copies. Of two blocks in a
// cluster each brings one KV block of every tile, to both.
template <int kRanks>
__device__ void Produce(const AttendParams& params, const AttendEntries& entries, const PrefillMaps& maps, int rank,
                        std::byte* queries, std::byte* tiles, PrefillShared& shared) {
  using Shape = PrefillSm90Shape;
  constexpr int kOwn = 2 / kRanks;  // KV blocks of a tile that this block copies
  const uint64_t policy = NormalPolicy();
  int copied = 0;  // tiles of keys
  for (int round = 0;; ++round) {
    const int index = round == 0 ? static_cast<int>(blockIdx.x) / kRanks : NextWork<kRanks>(maps, rank, round - 1, shared);
    const PrefillWork work = FindWork<kRanks>(params, entries, maps, rank, index);
    if (round == 0 && !entries.inputs_ready) WaitForInputs();  // what work there is is older than the step's layers
    const PrefillTile& tile = work.tile;
    if (threadIdx.x % 32 == 0) {
      const int place = round % Shape::kQueryStages, turn = round / Shape::kQueryStages;
      Barrier* const full = &shared.queries_full[place];
      if (turn > 0) WaitFor(&shared.queries_empty[place], (turn - 1) % 2);
      shared.work[place] = work;
      if (work.end == 0 || tile.rows == 0) {
        Arrive(full);
      } else {
        ArriveAndExpect(full, Shape::kColumns * maps.tile_tokens * params.group * 128);
        for (int column = 0; column < Shape::kColumns; ++column) {
          TensorCopy(queries + place * Shape::kQueryBytes + column * Shape::kQueryColumn, &maps.queries, column * 64,
                     work.kv_head * params.group, tile.first_token + tile.first_row / params.group, full, policy);
        }
      }
      const int32_t* blocks = params.block_table + tile.entry * params.block_table_stride;
      for (int t = work.begin; t < work.end; ++t, ++copied) {
        const int stage = copied % Shape::kStages, use = copied / Shape::kStages;
        const int count = min(2, (tile.length - t * Shape::kTokens + kKvBlockTokens - 1) / kKvBlockTokens);
        int row[kOwn];
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
          if (const int b = rank * kOwn + i; b < count) {
            row[i] = static_cast<int>(blocks[t * 2 + b] * maps.block_rows + work.kv_head * maps.head_rows);
          }
        }
        for (int values = 0; values < 2; ++values) {
          Barrier* const tile_full = values ? &shared.values_full[stage] : &shared.keys_full[stage];
          if (use > 0) WaitFor(values ? &shared.values_empty[stage] : &shared.keys_empty[stage], (use - 1) % 2);
          ArriveAndExpect(tile_full, count * Shape::kColumns * Shape::kBoxBytes);
          std::byte* const to = tiles + (stage * 2 + values) * Shape::kTileBytes;
#pragma unroll
          for (int i = 0; i < kOwn; ++i) {
            const int b = rank * kOwn + i;
            for (int column = 0; b < count && column < Shape::kColumns; ++column) {
              std::byte* const box = to + column * Shape::kTileColumn + b * Shape::kBoxBytes;
              const int from = row[i] + values * kKvBlockTokens;
              if constexpr (kRanks > 1) {
                TensorCopyToAll(box, &maps.pool, column * 64, from, tile_full, (1 << kRanks) - 1, policy);
              } else {
                TensorCopy(box, &maps.pool, column * 64, from, tile_full, policy);
              }
            }
          }
        }
      }
    }
    __syncwarp();
    if (work.end == 0) return;
  }
}

#endif

}  // namespace berth::kernels::cuda
