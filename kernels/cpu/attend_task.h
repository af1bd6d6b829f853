#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kv_layout.h"

namespace berth::kernels::cpu {

// Rows (token, query head) that one task takes, if a group of query heads allows it.
inline constexpr int kTaskRows = 192;
// The most rows that are multiplied at a time.
inline constexpr int kMicroTileRows = 6;

// Consecutive tokens of one sequence and the query heads that share one kv head. The rows are token-major: row r is token
// r / group, head kv_head * group + r % group.
struct AttendTask {
  int sequence = 0;
  int kv_head = 0;
  int64_t first_token = 0;
  int tokens = 0;
};

// Rows of values are padded to whole vectors.
inline int64_t PaddedDim(int64_t dim) { return (dim + 15) / 16 * 16; }

// What a task keeps while it walks over the KV blocks, carved from one thread's scratch.
struct AttendScratch {
  static size_t Size(int64_t key_dim, int64_t value_dim, int64_t rows) {
    return kKvBlockTokens * (key_dim + kMicroTileRows + PaddedDim(value_dim)) + rows * (PaddedDim(value_dim) + 2) +
           16 * key_dim;
  }
  AttendScratch(float* memory, int64_t key_dim, int64_t value_dim, int64_t rows)
      : keys(memory),
        values(keys + kKvBlockTokens * key_dim),
        scores(values + kKvBlockTokens * PaddedDim(value_dim)),
        sum(scores + kKvBlockTokens * kMicroTileRows),
        highest(sum + rows * PaddedDim(value_dim)),
        weight(highest + rows),
        lines(weight + rows) {}

  float* keys;     // [key_dim, 64]: transposed, so that tokens lie across vector lanes
  float* values;   // [64, padded value_dim]
  float* scores;   // [rows of a micro tile, 64]
  float* sum;      // [rows, padded value_dim] Σ exp(score - highest) v
  float* highest;  // [rows]
  float* weight;   // [rows] Σ exp(score - highest)
  float* lines;    // [16, key_dim]
};

}  // namespace berth::kernels::cpu
