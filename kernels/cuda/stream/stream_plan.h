#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/cuda/context.h"

namespace berth::kernels::cuda::stream {

// The shape of the streaming product's pipeline and its shared memory; see stream_product_sm90.cuh.
inline constexpr int kConsumerWarps = 8;
inline constexpr int kThreads = (kConsumerWarps + 1) * 32;  // the last warp produces
inline constexpr int kTilePairs = 8;
inline constexpr int kTileRows = 2 * kTilePairs;
inline constexpr int kMaxTokens = 8;  // the N of one tensor core instruction
inline constexpr int kMaxStages = 8;
inline constexpr int kBlockBytes = 64;  // of K, one step of a warp
inline constexpr int kBarrierBytes = 256;
inline constexpr int kSquareBytes = kConsumerWarps * kMaxTokens * sizeof(float);
inline constexpr int kSumBytes = 2 * kConsumerWarps * kTileRows * kMaxTokens * sizeof(float);
inline constexpr int kMapElements = 4;  // activations in one element of the weight's tensor map: a box has at most 256

constexpr int Aligned(int64_t bytes) { return static_cast<int>((bytes + 127) / 128 * 128); }
constexpr int WeightBytes(int chunk) { return kTileRows * chunk * 2; }
constexpr int TokenBytes(int chunk, int tokens) { return tokens * chunk * 2; }
constexpr int StageBytes(int chunk, int streamed_tokens) { return WeightBytes(chunk) + TokenBytes(chunk, streamed_tokens); }
constexpr int NormBytes(int64_t k) { return Aligned(k * static_cast<int64_t>(sizeof(float))); }

struct StreamPlan {
  int chunk = 0;          // elements of K per stage, a multiple of 64 (token rows are multiples of 128 bytes)
  int stages = 0;         // at most kMaxStages
  bool resident = false;  // the tokens stay in shared memory; else every tile brings them along again
  int shared_bytes = 0;
};

// How `tokens` rows go through a weight of `tiles` tiles with rows of `k` elements. Nothing if the kernel does not take this
// shape: another device than Hopper, too many tokens, k no multiple of 32, no room.
std::optional<StreamPlan> PlanStream(const Context& context, int64_t tokens, int64_t k, int64_t tiles, bool normed);

}  // namespace berth::kernels::cuda::stream
