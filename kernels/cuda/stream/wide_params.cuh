#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/util/norm.cuh"

namespace berth::kernels::cuda::stream {

inline constexpr int kWideRows = 128, kWidePairs = kWideRows / 2;
inline constexpr int kWideGroup = 8;   // neighbouring rows of a tile
inline constexpr int kWideChunk = 64;  // elements of K per stage: a row of them is as wide as the swizzle
inline constexpr int kWideRowBytes = kWideChunk * 2;
inline constexpr int kWideMinTokens = 16, kWideMaxTokens = 32;
inline constexpr int kWideMaxStages = 8, kWideMaxRanks = 8;
static_assert(kWideMinTokens / kWideMaxRanks >= 2);  // a block finishes whole pairs of tokens
inline constexpr int kWideWeightBytes = kWideRows * kWideRowBytes;
// The sums of two neighbouring tokens: those of a pair of rows after the other. So padded, a warp's stores go to all banks.
inline constexpr int kWideSumStride = kWidePairs + 2;
inline constexpr int kWideBarrierBytes = 256;
inline constexpr int kWideSharedBytes = 113 << 10;  // of a block: half of what an SM has

constexpr int WideStageBytes(int padded_tokens) { return kWideWeightBytes + padded_tokens * kWideRowBytes; }
constexpr int WideSumBytes(int padded_tokens) { return padded_tokens / 2 * kWideSumStride * static_cast<int>(sizeof(float4)); }
constexpr int WideFixedBytes(int padded_tokens) {
  return WideSumBytes(padded_tokens) + padded_tokens * static_cast<int>(sizeof(float)) + kWideBarrierBytes;
}

// Products of up to 32 tokens, whose time is that of reading the weight as well. A tile is 128 rows of the weight, the M of two
// groups of four warps; the tokens are the N of their products. Within 16 rows the first eight are the partners of the second
// eight, see LinkProduct, so that a thread holds both results of a pair.
//
// A tile is cut along K among the blocks of a cluster, where that makes more blocks than there are tiles, so that two blocks
// per SM have copies under way. Every block sends the others their tokens' share of its sums; a block adds up in the order of
// ranks and finishes its tokens: equal inputs give equal bits. A block that is alone walks through several tiles.
//
// As in the kernel for few tokens, the weight's first chunks are under way before the grid dependency wait, and an RMS norm
// goes along: a stage's tokens are multiplied with its weight where they lie, while the products of the stage before run.
struct WideParams {
  CUtensorMap map{};        // the weight as tiles, see MapInputs
  CUtensorMap token_map{};  // the tokens [tokens, k]
  int64_t k = 0;
  int rows = 0;
  int run = 0;           // as in LinkProduct, a multiple of kWideGroup
  int pairs_of_run = 0;  // in a tile
  int runs_of_tile = 0;
  int tiles_of_run = 0;
  int tiles = 0;
  int tokens = 0;
  int padded_tokens = kWideMinTokens;  // a power of two
  int stages = 0;
  NormView norm;
};

}  // namespace berth::kernels::cuda::stream
