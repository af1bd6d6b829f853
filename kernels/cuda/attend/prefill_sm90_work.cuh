#pragma once

#include <cuda.h>

#include "kernels/cuda/attend/prefill_rows.cuh"
#include "kernels/cuda/attend/sm90.cuh"

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
  static constexpr int kWarpStagingBytes = 16 * kDim * 2;  // a warp's rows on their way out
  static constexpr int kSharedBytes = kAlignment + kQueryBytes + 2 * kStages * kTileBytes + kConsumers / 32 * kWarpStagingBytes;
};

struct PrefillMaps {
  CUtensorMap queries;  // [rows, heads, 128] in boxes of tile_tokens, a group and 64
  CUtensorMap pool;     // rows of 128 values. Block b, kv head h: keys from row b * block_rows + h * head_rows on
  int64_t block_rows, head_rows;
  int32_t* taken;   // work that was taken; 0 between launches
  int tile_tokens;  // whole tokens of a group that 128 or 64 rows hold
};

#ifdef BERTH_HAS_SM90A

// A tile of rows and the key tiles [begin, end) that it sees.
struct PrefillWork {
  PrefillTile tile;  // without rows: there is nothing more to do
  int kv_head, begin, end;
};

// Shared memory beside the tiles. Barriers: what was copied has come; all warps have read it. [stage] for keys and values.
struct PrefillShared {
  Barrier queries_full, queries_empty;
  Barrier keys_full[PrefillSm90Shape::kStages], keys_empty[PrefillSm90Shape::kStages];
  Barrier values_full[PrefillSm90Shape::kStages], values_empty[PrefillSm90Shape::kStages];
  PrefillWork work;  // comes with the queries

  __device__ void Start() {
    for (Barrier* full : {&queries_full, &keys_full[0], &keys_full[1], &values_full[0], &values_full[1]}) {
      InitBarrier(full, 1);
    }
    for (Barrier* empty : {&keys_empty[0], &keys_empty[1], &values_empty[0], &values_empty[1]}) {
      InitBarrier(empty, PrefillSm90Shape::kConsumers / 32);
    }
    // Every thread has read `work`.
    InitBarrier(&queries_empty, PrefillSm90Shape::kConsumers);
    PublishBarriers();
  }
};

// Takes the next piece of work: tiles of rows with the longest walk come first, the heads of one side by side. Who does what
// changes from run to run, and nothing that comes out. All lanes of a warp call it together.
__device__ inline PrefillWork TakeWork(const AttendParams& params, const AttendEntries& entries, const PrefillMaps& maps) {
  using Shape = PrefillSm90Shape;
  const int index = __shfl_sync(~0u, threadIdx.x % 32 == 0 ? atomicAdd(maps.taken, 1) : 0, 0), heads = params.kv.kv_heads;
  PrefillWork work = {};
  work.kv_head = index % heads;
  int tiles;
  if (!FindTile(params, entries, maps.tile_tokens * params.group, index / heads, work.tile, tiles)) {
    // Every block comes once in vain, the last one of them tidies up.
    if (index == tiles * heads + static_cast<int>(gridDim.x) - 1) *maps.taken = 0;
    return work;
  }
  const PrefillTile& tile = work.tile;
  const int first = tile.position + tile.first_row / params.group;
  const int last = tile.position + (tile.first_row + tile.rows - 1) / params.group;
  work.begin = params.window > 0 ? max(0, first - params.window + 1) / Shape::kTokens : 0;
  work.end = last / Shape::kTokens + 1;
  return work;
}

// Brings the queries, keys and values of all of this block's work. One warp, whose first lane copies.
__device__ inline void Produce(const AttendParams& params, const AttendEntries& entries, const PrefillMaps& maps,
                               uint32_t queries, uint32_t tiles, PrefillShared& shared) {
  using Shape = PrefillSm90Shape;
  int copied = 0;  // tiles of keys
  for (int round = 0;; ++round) {
    const PrefillWork work = TakeWork(params, entries, maps);
    const PrefillTile& tile = work.tile;
    if (threadIdx.x % 32 == 0) {
      Barrier* const full = &shared.queries_full;
      if (round > 0) WaitFor(&shared.queries_empty, (round - 1) % 2);
      shared.work = work;
      if (tile.rows == 0) {
        Arrive(full);
      } else {
        ArriveAndExpect(full, Shape::kColumns * maps.tile_tokens * params.group * 128);
        for (int column = 0; column < Shape::kColumns; ++column) {
          sm90::CopyBox(queries + column * Shape::kQueryColumn, &maps.queries, column * 64, work.kv_head * params.group,
                        tile.first_token + tile.first_row / params.group, full);
        }
      }
      const int32_t* blocks = params.block_table + tile.entry * params.block_table_stride;
      for (int t = work.begin; t < work.end; ++t, ++copied) {
        const int stage = copied % Shape::kStages, use = copied / Shape::kStages;
        const int count = min(2, (tile.length - t * Shape::kTokens + kKvBlockTokens - 1) / kKvBlockTokens);
        int row[2];
        for (int b = 0; b < count; ++b) {
          row[b] = static_cast<int>(blocks[t * 2 + b] * maps.block_rows + work.kv_head * maps.head_rows);
        }
        for (int values = 0; values < 2; ++values) {
          Barrier* const tile_full = values ? &shared.values_full[stage] : &shared.keys_full[stage];
          if (use > 0) WaitFor(values ? &shared.values_empty[stage] : &shared.keys_empty[stage], (use - 1) % 2);
          ArriveAndExpect(tile_full, count * Shape::kColumns * Shape::kBoxBytes);
          const uint32_t to = tiles + (stage * 2 + values) * Shape::kTileBytes;
          for (int b = 0; b < count; ++b) {
            for (int column = 0; column < Shape::kColumns; ++column) {
              sm90::CopyBox(to + column * Shape::kTileColumn + b * Shape::kBoxBytes, &maps.pool, column * 64,
                            row[b] + values * kKvBlockTokens, tile_full);
            }
          }
        }
      }
    }
    __syncwarp();
    if (tile.rows == 0) return;
  }
}

#endif

}  // namespace berth::kernels::cuda
