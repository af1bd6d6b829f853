#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>

namespace berth::kernels::cuda::split {

inline constexpr int kStep = 64;       // elements of K in a stage: a row of them is as wide as the swizzle
inline constexpr int kSetTokens = 64;  // of a group of four warps, the M of their products
inline constexpr int kMaxSets = 3;
inline constexpr int kSharedBytes = 227 << 10;
inline constexpr int kMaxStages = 12;
inline constexpr int kBarrierBytes = 256;

constexpr int StageBytes(int width, int sets) { return (sets * kSetTokens + width) * kStep * 2; }
constexpr int Stages(int width, int sets, int epilogue_bytes) {
  return std::min((kSharedBytes - kBarrierBytes - epilogue_bytes) / StageBytes(width, sets), kMaxStages);
}

// How many sets a block takes: the registers of a thread shrink with them.
constexpr int MostSets(int width) { return width <= 144 ? kMaxSets : 2; }
constexpr int MostTokens(int width) { return MostSets(width) * kSetTokens; }

// A product of tokens [token_count, k] and a weight [n, k].
struct SplitParams {
  CUtensorMap tokens;  // boxes of what one block copies of the tokens, kStep elements wide
  CUtensorMap weight;  // boxes of a tile's rows
  int steps;           // along K
  int token_count;
  int token_rows;  // of one block, a multiple of 16 or 8
  int token_box;   // of them in one copy
};

}  // namespace berth::kernels::cuda::split
