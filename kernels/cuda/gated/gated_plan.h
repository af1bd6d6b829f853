#pragma once

#include <cstdint>

namespace berth::kernels::cuda::gated {

inline constexpr int kStep = 64;         // elements of K in a stage: a row of them is as wide as the swizzle
inline constexpr int kGroupTokens = 64;  // of a group of four warps
inline constexpr int kPair = 2;          // blocks of a cluster
inline constexpr int kMaxGroups = 3;     // of consumers
inline constexpr int kSharedBytes = 227 << 10;
inline constexpr int kBarrierBytes = 256;

// What the two blocks of a cluster multiply alike, so that each copies half of it for both.
enum class Shared { kTokens, kWeight };

// What becomes of a tile's sums: outputs of an MLP, or the highest of each token's.
enum class Result { kActivated, kBest };

inline constexpr int kMinWidth = 128, kMaxWidth = 256, kWidthStep = 32;
constexpr int MinWidth(int groups) { return groups < kMaxGroups ? kMinWidth : 192; }  // narrower ones are for fewer groups

// How a product of tokens with gate and up rows of a weight is cut into tiles.
struct GatedPlan {
  int width = kMaxWidth;  // rows of the weight in a tile, half of them gates
  int groups = 2;         // a tile has kGroupTokens times as many tokens
  Shared shared = Shared::kWeight;
  int64_t token_units = 0, width_units = 0;  // of the tiles that a cluster takes at once
  int64_t smaller_units = 0;                 // of token_units the last ones, whose tiles have a group less
};

// How many rows are copied of a tile of `tile` rows, of which `tokens` are there. A box that reaches beyond the last token
// takes longer than one that ends with it.
constexpr int64_t CopiedRows(int64_t tokens, int64_t tile) {
  return tokens >= tile ? tile : tokens <= 0 ? 0 : (tokens + 15) / 16 * 16;
}

constexpr int StageBytes(int width, int groups) { return (width + groups * kGroupTokens) * kStep * 2; }
constexpr int Stages(int width, int groups) { return (kSharedBytes - kBarrierBytes) / StageBytes(width, groups); }

// The plan whose tiles come out in the fewest of the cycles that products or the second-level cache take, of several within 3 %
// that with the largest tiles. A multiple of kWidthStep as `width` is taken as it is, 0 is chosen.
GatedPlan PlanGated(int64_t tokens, int64_t inter, int multiprocessors, int width);

}  // namespace berth::kernels::cuda::gated
