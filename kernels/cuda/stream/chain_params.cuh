#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/stream/epilogues.cuh"
#include "kernels/cuda/stream/walk.cuh"
#include "kernels/cuda/util/norm.cuh"

namespace berth::kernels::cuda::stream {

// The shape of a chain's pipeline and its shared memory; see chain_sm90.cuh.
inline constexpr int kTilePairs = 8;
inline constexpr int kTileRows = 2 * kTilePairs;
inline constexpr int kMaxTokens = 8;                 // the N of one tensor core instruction
inline constexpr int kChainThreads = kThreads + 32;  // one more warp waits for the other blocks
inline constexpr int kMaxLinks = 4;
inline constexpr int kGroup = 4;          // tiles that share what is read of the tokens
inline constexpr int kChunkBytes = 1024;  // of a row of the weight in one stage
inline constexpr int kAheadChunks = 4;    // of the tokens, read at once
inline constexpr int kMaxStages = 12;
inline constexpr int kMinStages = 4;
inline constexpr int kStageBytes = kTileRows * kChunkBytes;
inline constexpr int kSquareBytes = kConsumerWarps * kMaxTokens * sizeof(float);
inline constexpr int kBarrierBytes = 256;
inline constexpr int kSumBytes = kGroup * kConsumerWarps * kTileRows * kMaxTokens * sizeof(float);
inline constexpr int kFixedBytes = kBarrierBytes + kSquareBytes + kSumBytes;
inline constexpr int kSharedBytes = 227 << 10;  // of a CTA, one per SM
inline constexpr int kMapElements = 4;          // activations in one element of the weight's tensor map: a box has at most 256

constexpr int NormBytes(int64_t k) { return static_cast<int>((k * 4 + 127) / 128 * 128); }
// The widest weight of a norm that leaves enough stages.
inline constexpr int kMaxNormBytes = kSharedBytes - kFixedBytes - kMinStages * kStageBytes;

// In device memory, zeros at first.
struct ChainState {
  uint64_t begun;    // how many blocks of chains with several links have begun, ever
  uint64_t arrived;  // how often blocks came to the end of a product that has a successor, ever
  uint64_t used[2];  // bytes of each set that the last chain to take it has
};

enum class LinkKind { kAttnIn, kMlpUp, kStore, kStoreF32 };

// One product of a chain without what becomes of its sums.
struct LinkProduct {
  CUtensorMap map{};  // the weight [rows, k] as tiles
  int rows = 0;
  int run = 0;  // 0: a tile is 16 neighbouring rows; else row r of every 2 * run goes with row r + run
  int tiles = 0, tiles_of_run = 0;
  int tokens = 0;
  int64_t k = 0;
  const std::byte* in = nullptr;
  int64_t in_stride = 0;         // bytes
  const int32_t* row = nullptr;  // which rows of `in` are the tokens; null: the first ones
  NormView norm;
};

// T: the activations' type.
template <typename T>
struct ChainLink {
  LinkProduct product;
  LinkKind kind{};
  // What it hands on to those behind it: [product.tokens, handed_width] from this byte of a set on. Nothing if it is the last.
  uint32_t handed_at = 0, handed_width = 0;
  int adds_to = -1;  // which link's results the store adds to; -1: what its place holds
  // The one of its kind.
  AttnInEpilogue<T> attn_in{};
  MlpUpEpilogue<T> mlp_up{};
  StoreEpilogue<T> store{};
  StoreEpilogue<float> store_f32{};

  // Where a product's results are, if links behind it may read them: activations, elements from one token to the next.
  struct Results {
    const void* data = nullptr;
    int64_t width = 0, stride = 0;
  };
  Results results() const {
    if (kind == LinkKind::kMlpUp) return {mlp_up.out, mlp_up.inter, mlp_up.out_stride};
    if (kind == LinkKind::kStore) return {store.out, store.n, store.out_stride};
    return {};
  }

  void Set(const AttnInEpilogue<T>& epilogue) { kind = LinkKind::kAttnIn, attn_in = epilogue; }
  void Set(const MlpUpEpilogue<T>& epilogue) { kind = LinkKind::kMlpUp, mlp_up = epilogue; }
  void Set(const StoreEpilogue<T>& epilogue) { kind = LinkKind::kStore, store = epilogue; }
  void Set(const StoreEpilogue<float>& epilogue) { kind = LinkKind::kStoreF32, store_f32 = epilogue; }
};

template <typename T>
struct ChainParams {
  ChainLink<T> link[kMaxLinks];
  int links = 0;
  int stages = 0;
  int flying = 0;      // stages whose copies may be under way at once
  int norm_bytes = 0;  // of the widest norm's weight
  ChainState* state = nullptr;
  std::byte* handed = nullptr;  // two sets of what links hand on, of `set_bytes` each, of which this chain has `used`
  uint64_t set_bytes = 0, used = 0;
};

}  // namespace berth::kernels::cuda::stream
