#pragma once

#include <cstdint>

#include "kernels/cuda/stream/chain_feed.cuh"
#include "kernels/cuda/stream/chain_params.cuh"
#include "kernels/cuda/stream/chain_shared.cuh"
#include "kernels/cuda/stream/handed.cuh"
#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/mma.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda::stream {

// Products of few tokens, one after the other in one kernel, bound by the bytes of their weights. A CTA per SM owns an equal
// run of every product's tiles. A tile is 16 rows of the weight, the M of one tensor core instruction: eight rows and the eight
// whose results an epilogue needs together with theirs (gate and up; the two halves of a rotated pair). A producer warp copies
// tiles in chunks along K, `stages` ahead, and does not stop where a product ends: weights never change, so the next ones are
// under way while the blocks wait for each other. The first come before the grid dependency wait. Consumer warps cut every
// chunk among them by K and add up in the order of warps: equal inputs give equal bits.
//
// The tokens come straight from L2 into fragments, several chunks at once, for up to kGroup tiles. An RMS norm needs no pass of
// its own: fragments are multiplied with the norm's weight, their squares added up on the way, and the results scaled by the
// reciprocal root at the end. (So in f16 a value times its norm weight has to stay in f16's range.)
//
// Results are handed on as handed.cuh says, to one of two sets of places. A chain takes the other set than the one before it,
// and clears that one's when it ends.
//
// Inside a row the order of K is free as long as weight and tokens agree: a thread takes 16 bytes of a row, eight consecutive
// elements, as its share of two instructions.

#if __CUDA_ARCH__ >= 900

// kLinked: the chain has several links. One alone does not wait for other blocks, and what a block does not run is not fetched.
template <typename T, bool kLinked>
class ChainConsumer {
 public:
  __device__ ChainConsumer(const ChainParams<T>& params, const ChainShared& shared)
      : params_(params), shared_(shared), warp_(threadIdx.x / 32), lane_(threadIdx.x % 32) {}

  __device__ void Consume() {
    WaitForInputs();
    for (int i = 0; i < Links<kLinked>(params_); ++i) {
      if (i > 0) TellWritten();
      Multiply(i);
    }
  }

 private:
  // What a thread reads ahead of its token: of every chunk two pieces, 64 bytes apart.
  using Pieces = uint4[kAheadChunks][2];

  // What a thread finishes of a group of tiles: a pair of rows of one of them, one token.
  struct Prepared {
    int first, second;  // rows of the weight
    bool valid;
    uint32_t handed;  // where in a set the token's results begin, bytes
    typename AttnInEpilogue<T>::Prepared attn_in;
    typename StoreEpilogue<T>::Prepared store;
  };

  // For the group that begins with `tile`.
  __device__ Prepared Prepare(const ChainLink<T>& chained, int tile) const {
    const LinkProduct& link = chained.product;
    Prepared prepared{};
    tile += threadIdx.x / (kTilePairs * kMaxTokens);
    if (tile >= Share(link, blockIdx.x + 1) || Token() >= link.tokens) return prepared;
    if (link.run == 0) {
      prepared.first = tile * kTileRows + RowOfTile();
      prepared.second = prepared.first + kTilePairs;
      prepared.valid = prepared.first < link.rows;
    } else {
      const int run = tile / link.tiles_of_run, at = (tile - run * link.tiles_of_run) * kTilePairs + RowOfTile();
      prepared.first = run * 2 * link.run + at;
      prepared.second = prepared.first + link.run;
      prepared.valid = at < link.run;
    }
    if (!prepared.valid) return prepared;
    prepared.handed = HandedAt(chained, Token());
    if (chained.kind == LinkKind::kAttnIn) {
      prepared.attn_in = chained.attn_in.Prepare(prepared.first, prepared.second, Token());
      chained.attn_in.Resolve(prepared.attn_in, prepared.first, Token());
    }
    if (kLinked && chained.kind == LinkKind::kStore && chained.adds_to >= 0) {
      const T* const held = Handed(HandedAt(params_.link[chained.adds_to], Token()));
      prepared.store = {AwaitHanded(held + prepared.first), AwaitHanded(held + min(prepared.second, link.rows - 1))};
    } else if (chained.kind == LinkKind::kStore) {
      prepared.store = chained.store.Prepare(prepared.first, prepared.second, Token());
    }
    return prepared;
  }
  __device__ static int RowOfTile() { return threadIdx.x % kTilePairs; }
  __device__ static int Token() { return threadIdx.x / kTilePairs % kMaxTokens; }

  __device__ void Multiply(int i) {
    const ChainLink<T>& chained = params_.link[i];
    const LinkProduct& link = chained.product;
    const int chunks = Chunks<T>(link), first = Share(link, blockIdx.x), end = Share(link, blockIdx.x + 1), group = lane_ / 4;
    const bool norms = link.norm.weight != nullptr;
    float scale = 1, squares = 0;
    Pieces next;
    const bool handed = kLinked && i > 0;  // its tokens are
    if (handed) WaitFor(shared_.chosen, 0);
    int tile = first;
#pragma unroll 1
    do {
      const Prepared prepared = Prepare(chained, tile);
      if (tile == first) {
        // All but the tokens themselves is looked up ahead of the wait.
        const int row = group >= link.tokens || link.row == nullptr ? group : link.row[group];
        const std::byte* const token =
            handed ? reinterpret_cast<std::byte*>(Handed(HandedAt(params_.link[i - 1], row))) : link.in + row * link.in_stride;
        in_ = group >= link.tokens ? nullptr : token + Offset();
        end_ = static_cast<int>(link.k * sizeof(T)) - Offset();
        if (handed) WaitFor(shared_.ready, (i - 1) % 2);
        Read(0, handed, next);
        if (norms) {
          WaitFor(shared_.norm_full, norm_parity_);
          norm_parity_ ^= 1;
        }
        if (first == end) return;
      }
      const int tiles = min(kGroup, end - tile);
      float sum[kGroup][4] = {};
#pragma unroll 1
      for (int ahead = 0; ahead < chunks; ahead += kAheadChunks) {
        Pieces x;
        if (handed && tile == first) {
          while (AnyMissing(next)) Read(ahead, handed, next);
        }
#pragma unroll
        for (int c = 0; c < kAheadChunks; ++c) {
#pragma unroll
          for (int b = 0; b < 2; ++b) x[c][b] = handed ? Inverted(next[c][b]) : next[c][b];
        }
        const bool last = ahead + kAheadChunks >= chunks;
        if (!last || tile + kGroup < end) Read(last ? 0 : ahead + kAheadChunks, handed, next);
#pragma unroll 1
        for (int chunk = ahead; chunk < min(ahead + kAheadChunks, chunks); ++chunk) {
          if (norms) Norm(link, chunk, x[0], squares);
          MultiplyTwo(x[0], sum[0], sum[1], tiles);
          if (tiles > 2) MultiplyTwo(x[0], sum[2], sum[3], tiles - 2);
#pragma unroll
          for (int c = 1; c < kAheadChunks; ++c) x[c - 1][0] = x[c][0], x[c - 1][1] = x[c][1];
        }
      }
      if (norms && tile == first) PutSquares(squares);
      Exchange(sum);
      if (norms && tile == first) scale = InverseRoot(link);
      if (kLinked && i == 0) WaitFor(shared_.chosen, 0);
      Finish(i, prepared, scale);
      tile += kGroup;
    } while (tile < end);
  }

  // Where the warp's share of a chunk begins for this thread: two neighbouring blocks of 64 bytes.
  __device__ int Offset() const { return warp_ * 128 + lane_ % 4 * 16; }

  // As it lies there: in inverted bits if it was handed on.
  __device__ void Read(int chunk, bool handed, Pieces& x) const {
#pragma unroll
    for (int c = 0; c < kAheadChunks; ++c) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        const int at = (chunk + c) * kChunkBytes + b * 64;
        x[c][b] = in_ != nullptr && at < end_ ? LoadHanded(in_ + at) : handed ? Inverted({}) : uint4{};
      }
    }
  }

  __device__ static bool AnyMissing(const Pieces& x) {
    uint32_t missing = 0;
#pragma unroll
    for (int c = 0; c < kAheadChunks; ++c) missing |= Missing(x[c][0]) | Missing(x[c][1]);
    return missing != 0;
  }

  // Where in a set the results of a token begin, bytes, and in this chain's set, once it is chosen.
  __device__ static uint32_t HandedAt(const ChainLink<T>& link, int token) {
    return link.handed_at + token * link.handed_width * static_cast<uint32_t>(sizeof(T));
  }
  __device__ T* Handed(uint32_t at) const { return reinterpret_cast<T*>(*shared_.set + at); }

  // Multiplies with the norm's weight; adds up the squares of what was there.
  __device__ void Norm(const LinkProduct& link, int chunk, uint4 (&x)[2], float& squares) const {
    if (in_ == nullptr) return;
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const int at = chunk * kChunkBytes + b * 64;
      if (at >= end_) return;
      float norm[8];
      Load<8>(shared_.norm + (at + Offset()) / static_cast<int>(sizeof(T)), norm);
      squares += Scale<T>(norm, link.norm.weight_offset, x[b]);
    }
  }

  // A chunk of one tile or two. Lanes of odd rows read their two pieces the other way round: eight lanes then read all banks.
  __device__ void MultiplyTwo(const uint4 (&x)[2], float (&first)[4], float (&second)[4], int tiles) {
    const bool odd = lane_ & 4;
    const int offset = lane_ / 4 * kChunkBytes + Offset(), there = odd ? 64 : 0, across = 64 - there;
    uint4 low[2][2] = {}, high[2][2] = {};
    RingCursor at = at_;
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      if (t >= tiles) break;
      WaitFor(shared_.full + at.stage, at.parity);
      const std::byte* from = shared_.stages + at.stage * kStageBytes + offset;
      const auto read = [](const std::byte* piece) { return *reinterpret_cast<const uint4*>(piece); };
      low[t][0] = read(from + there);
      high[t][0] = read(from + kTilePairs * kChunkBytes + there);
      low[t][1] = read(from + across);
      high[t][1] = read(from + kTilePairs * kChunkBytes + across);
      at.Advance(params_.stages);
    }
    __syncwarp();
    if (lane_ < min(tiles, 2)) {
      const int stage = at_.stage + lane_;
      Arrive(shared_.empty + (stage < params_.stages ? stage : stage - params_.stages));
    }
    at_ = at;
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      SwapIf(odd, low[t]);
      SwapIf(odd, high[t]);
    }
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      Mma<T>(first, {low[0][b].x, high[0][b].x, low[0][b].y, high[0][b].y}, x[b].x, x[b].y);
      Mma<T>(second, {low[1][b].x, high[1][b].x, low[1][b].y, high[1][b].y}, x[b].x, x[b].y);
      Mma<T>(first, {low[0][b].z, high[0][b].z, low[0][b].w, high[0][b].w}, x[b].z, x[b].w);
      Mma<T>(second, {low[1][b].z, high[1][b].z, low[1][b].w, high[1][b].w}, x[b].z, x[b].w);
    }
  }

  __device__ static void SwapIf(bool swap, uint4 (&pair)[2]) {
    const uint4 a = pair[0], b = pair[1];
    pair[0] = {swap ? b.x : a.x, swap ? b.y : a.y, swap ? b.z : a.z, swap ? b.w : a.w};
    pair[1] = {swap ? a.x : b.x, swap ? a.y : b.y, swap ? a.z : b.z, swap ? a.w : b.w};
  }

  // The tokens' squares as this warp saw them, to be read after the next Exchange: [warp][token].
  __device__ void PutSquares(float squares) {
    squares += __shfl_xor_sync(~0u, squares, 1);
    squares += __shfl_xor_sync(~0u, squares, 2);
    if (lane_ % 4 == 0) shared_.squares[warp_ * kMaxTokens + lane_ / 4] = squares;
  }

  // Of the token that this thread finishes.
  __device__ float InverseRoot(const LinkProduct& link) const {
    float squares = 0;
    for (int warp = 0; warp < kConsumerWarps; ++warp) squares += shared_.squares[warp * kMaxTokens + Token()];
    return rsqrtf(squares / static_cast<float>(link.k) + link.norm.epsilon);
  }

  // Puts every warp's parts where all can read them: [tile][warp][row][token].
  __device__ void Exchange(const float (&sum)[kGroup][4]) {
    SyncConsumers();
#pragma unroll
    for (int t = 0; t < kGroup; ++t) {
      float* to = shared_.sums + ((t * kConsumerWarps + warp_) * kTileRows + lane_ / 4) * kMaxTokens + lane_ % 4 * 2;
      *reinterpret_cast<float2*>(to) = {sum[t][0], sum[t][1]};
      *reinterpret_cast<float2*>(to + kTilePairs * kMaxTokens) = {sum[t][2], sum[t][3]};
    }
    SyncConsumers();
  }

  __device__ float Total(int row) const {
    const int tile = threadIdx.x / (kTilePairs * kMaxTokens);
    float total = 0;
#pragma unroll
    for (int warp = 0; warp < kConsumerWarps; ++warp) {
      total += shared_.sums[((tile * kConsumerWarps + warp) * kTileRows + row) * kMaxTokens + Token()];
    }
    return total;
  }

  __device__ void Finish(int i, const Prepared& prepared, float scale) const {
    if (!prepared.valid) return;
    const ChainLink<T>& link = params_.link[i];
    T* const handed = kLinked && i + 1 < params_.links ? Handed(prepared.handed) : nullptr;
    const int first = prepared.first, second = prepared.second;
    const float a = scale * Total(RowOfTile()), b = scale * Total(RowOfTile() + kTilePairs);
    switch (link.kind) {
      case LinkKind::kAttnIn:
        return link.attn_in.Finish(prepared.attn_in, first, second, Token(), a, b);
      case LinkKind::kMlpUp:
        return link.mlp_up.Finish({}, first, second, Token(), a, b, handed);
      case LinkKind::kStore:
        return link.store.Finish(prepared.store, first, second, Token(), a, b, handed);
      case LinkKind::kStoreF32:
        return link.store_f32.Finish(link.store_f32.Prepare(first, second, Token()), first, second, Token(), a, b);
    }
  }

  const ChainParams<T>& params_;
  const ChainShared& shared_;
  const int warp_, lane_;
  RingCursor at_;
  uint32_t norm_parity_ = 0;
  const std::byte* in_ = nullptr;  // the token of this thread's row of fragments; null: none
  int end_ = 0;                    // bytes of it from this thread's first piece on
};

#endif

template <typename T, bool kLinked>
__global__ void __launch_bounds__(kChainThreads, 1) RunChain(const __grid_constant__ ChainParams<T> params) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) std::byte chain_shared[];
  const ChainShared shared(chain_shared, params.norm_bytes);
  const bool produces = threadIdx.x == kConsumerWarps * 32;
  if (produces) {
    for (int i = 0; i < Links<kLinked>(params); ++i) PrefetchMap(&params.link[i].product.map);
    shared.Init(params.stages);
  }
  LetSuccessorStart();
  __syncthreads();
  if (produces) {
    ChainProducer<T, kLinked>(params, shared).Produce();
  } else if (threadIdx.x >= kThreads) {
    ChainWaiter<T, kLinked>(params, shared).Synchronise();
  } else if (threadIdx.x < kConsumerWarps * 32) {
    ChainConsumer<T, kLinked>(params, shared).Consume();
  }
#endif
}

}  // namespace berth::kernels::cuda::stream
