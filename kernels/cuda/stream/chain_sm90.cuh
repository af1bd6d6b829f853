#pragma once

#include <cstdint>

#include "kernels/cuda/stream/chain_params.cuh"
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
// Inside a row the order of K is free as long as weight and tokens agree: a thread takes 16 bytes of a row, eight consecutive
// elements, as its share of two instructions.

#if __CUDA_ARCH__ >= 900

// A place in the ring of stages.
struct RingCursor {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void Advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

__device__ inline uint64_t LoadAcquire(const uint64_t* from) {
  uint64_t value;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
  return value;
}

template <typename T>
class ChainWalk {
 public:
  __device__ ChainWalk(const ChainParams<T>& params, std::byte* shared)
      : params_(params), warp_(threadIdx.x / 32), lane_(threadIdx.x % 32) {
    full_ = reinterpret_cast<Barrier*>(shared);
    empty_ = full_ + kMaxStages;
    norm_full_ = empty_ + kMaxStages;
    ready_ = norm_full_ + 1;
    squares_ = reinterpret_cast<float*>(shared + kBarrierBytes);
    sums_ = reinterpret_cast<float*>(shared + kBarrierBytes + kSquareBytes);
    norm_ = reinterpret_cast<float*>(shared + kFixedBytes);
    stages_ = shared + kFixedBytes + params.norm_bytes;
  }

  __device__ void Init() {
    for (int i = 0; i < params_.links; ++i) PrefetchMap(&params_.link[i].product.map);
    for (int i = 0; i < params_.stages; ++i) {
      InitBarrier(full_ + i, 1);
      InitBarrier(empty_ + i, kConsumerWarps);
    }
    InitBarrier(norm_full_, 1);
    InitBarrier(ready_, 1);
    PublishBarriers();
  }

  // One thread.
  __device__ void Produce() {
    const uint64_t policy = StreamingPolicy();
    for (int i = 0; i < params_.links; ++i) {
      const LinkProduct& link = params_.link[i].product;
      const int end = Share(link, blockIdx.x + 1), chunks = Chunks(link);
      for (int first = Share(link, blockIdx.x); first < end; first += kGroup) {
        for (int chunk = 0; chunk < chunks; ++chunk) {
          for (int tile = first; tile < min(first + kGroup, end); ++tile) Copy(link, tile, chunk, policy);
        }
      }
    }
  }

  __device__ void Consume() {
    WaitForInputs();
    for (int i = 0; i < params_.links; ++i) {
      if (i > 0) asm volatile("bar.arrive 2, %0;" ::"n"(kWrittenThreads) : "memory");
      Multiply(i);
    }
  }

  // The warp that waits for the other blocks: after each product it says that the block has written its results, and lets the
  // consumers go on when all have.
  __device__ void Synchronise() {
    if (lane_ == 0) FetchNorm(0);
    WaitForInputs();
    // Blocks that are ahead may have come to the end of the first product: never all, for this one has not.
    uint64_t arrivals = 0;
    if (lane_ == 0) arrivals = LoadAcquire(params_.arrivals) / gridDim.x * gridDim.x;
    for (int i = 1; i < params_.links; ++i) {
      asm volatile("bar.sync 2, %0;" ::"n"(kWrittenThreads) : "memory");
      if (lane_ == 0) {
        asm volatile("red.release.gpu.global.add.u64 [%0], 1;" ::"l"(params_.arrivals) : "memory");
        FetchNorm(i);
        arrivals += gridDim.x;
        while (LoadAcquire(params_.arrivals) < arrivals) {
        }
        Arrive(ready_);
      }
      __syncwarp();
    }
  }

 private:
  static constexpr int kWrittenThreads = (kConsumerWarps + 1) * 32;  // of the barrier between consumers and the warp that waits

  // What a thread reads ahead of its token: of every chunk two pieces, 64 bytes apart.
  using Pieces = uint4[kAheadChunks][2];

  __device__ static int Share(const LinkProduct& link, int block) {
    return static_cast<int>(static_cast<uint32_t>(block * link.tiles) / gridDim.x);
  }
  __device__ static int Chunks(const LinkProduct& link) {
    return static_cast<int>((link.k * sizeof(T) + kChunkBytes - 1) / kChunkBytes);
  }

  __device__ void FetchNorm(int i) {
    const LinkProduct& link = params_.link[i].product;
    if (link.norm.weight == nullptr) return;
    const auto bytes = static_cast<uint32_t>(link.k * sizeof(float));
    ArriveAndExpect(norm_full_, bytes);
    BulkCopy(norm_, link.norm.weight, bytes, norm_full_);
  }

  // Not before the ring has room and of the copies before only few are under way: what else is read waits behind them. That
  // wait comes last, so that the copy follows it at once.
  __device__ void Copy(const LinkProduct& link, int tile, int chunk, uint64_t policy) {
    const int run = link.run == 0 ? 0 : tile / link.tiles_of_run;
    const int row = link.run == 0 ? tile * kTileRows : (tile - run * link.tiles_of_run) * kTilePairs;
    WaitFor(empty_ + at_.stage, at_.parity ^ 1);
    ArriveAndExpect(full_ + at_.stage, kStageBytes);
    if (flying_ == params_.flying) {
      WaitFor(full_ + landed_.stage, landed_.parity);
      landed_.Advance(params_.stages);
    } else {
      ++flying_;
    }
    TensorCopy(stages_ + at_.stage * kStageBytes, &link.map, chunk * (kChunkBytes / 2 / kMapElements), row, 0, run,
               full_ + at_.stage, policy);
    at_.Advance(params_.stages);
  }

  // What a thread finishes of a group of tiles: a pair of rows of one of them, one token.
  struct Prepared {
    int first, second;  // rows of the weight
    bool valid;
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
    if (chained.kind == LinkKind::kAttnIn) {
      prepared.attn_in = chained.attn_in.Prepare(prepared.first, prepared.second, Token());
      chained.attn_in.Resolve(prepared.attn_in, prepared.first, Token());
    }
    if (chained.kind == LinkKind::kStore) prepared.store = chained.store.Prepare(prepared.first, prepared.second, Token());
    return prepared;
  }
  __device__ static int RowOfTile() { return threadIdx.x % kTilePairs; }
  __device__ static int Token() { return threadIdx.x / kTilePairs % kMaxTokens; }

  __device__ void Multiply(int i) {
    const ChainLink<T>& chained = params_.link[i];
    const LinkProduct& link = chained.product;
    const int chunks = Chunks(link), first = Share(link, blockIdx.x), end = Share(link, blockIdx.x + 1), group = lane_ / 4;
    const bool norms = link.norm.weight != nullptr;
    float scale = 1, squares = 0;
    Pieces next;
    int tile = first;
#pragma unroll 1
    do {
      const Prepared prepared = Prepare(chained, tile);
      if (tile == first) {
        // All but the tokens themselves is looked up ahead of the wait.
        in_ = group >= link.tokens ? nullptr
                                   : link.in + (link.row == nullptr ? group : link.row[group]) * link.in_stride + Offset();
        end_ = static_cast<int>(link.k * sizeof(T)) - Offset();
        if (i > 0) WaitFor(ready_, (i - 1) % 2);
        Read(0, next);
        if (norms) {
          WaitFor(norm_full_, norm_parity_);
          norm_parity_ ^= 1;
        }
        if (first == end) return;
      }
      const int tiles = min(kGroup, end - tile);
      float sum[kGroup][4] = {};
#pragma unroll 1
      for (int ahead = 0; ahead < chunks; ahead += kAheadChunks) {
        Pieces x;
#pragma unroll
        for (int c = 0; c < kAheadChunks; ++c) x[c][0] = next[c][0], x[c][1] = next[c][1];
        const bool last = ahead + kAheadChunks >= chunks;
        if (!last || tile + kGroup < end) Read(last ? 0 : ahead + kAheadChunks, next);
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
      Finish(chained, prepared, scale);
      tile += kGroup;
    } while (tile < end);
  }

  // Where the warp's share of a chunk begins for this thread: two neighbouring blocks of 64 bytes.
  __device__ int Offset() const { return warp_ * 128 + lane_ % 4 * 16; }

  __device__ void Read(int chunk, Pieces& x) const {
#pragma unroll
    for (int c = 0; c < kAheadChunks; ++c) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        const int at = (chunk + c) * kChunkBytes + b * 64;
        x[c][b] = in_ != nullptr && at < end_ ? __ldcg(reinterpret_cast<const uint4*>(in_ + at)) : uint4{};
      }
    }
  }

  // Multiplies with the norm's weight; adds up the squares of what was there.
  __device__ void Norm(const LinkProduct& link, int chunk, uint4 (&x)[2], float& squares) const {
    if (in_ == nullptr) return;
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const int at = chunk * kChunkBytes + b * 64;
      if (at >= end_) return;
      float norm[8];
      Load<8>(norm_ + (at + Offset()) / static_cast<int>(sizeof(T)), norm);
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
      WaitFor(full_ + at.stage, at.parity);
      const std::byte* from = stages_ + at.stage * kStageBytes + offset;
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
      Arrive(empty_ + (stage < params_.stages ? stage : stage - params_.stages));
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
    if (lane_ % 4 == 0) squares_[warp_ * kMaxTokens + lane_ / 4] = squares;
  }

  // Of the token that this thread finishes.
  __device__ float InverseRoot(const LinkProduct& link) const {
    float squares = 0;
    for (int warp = 0; warp < kConsumerWarps; ++warp) squares += squares_[warp * kMaxTokens + Token()];
    return rsqrtf(squares / static_cast<float>(link.k) + link.norm.epsilon);
  }

  // Puts every warp's parts where all can read them: [tile][warp][row][token].
  __device__ void Exchange(const float (&sum)[kGroup][4]) {
    SyncConsumers();
#pragma unroll
    for (int t = 0; t < kGroup; ++t) {
      float* to = sums_ + ((t * kConsumerWarps + warp_) * kTileRows + lane_ / 4) * kMaxTokens + lane_ % 4 * 2;
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
      total += sums_[((tile * kConsumerWarps + warp) * kTileRows + row) * kMaxTokens + Token()];
    }
    return total;
  }

  __device__ void Finish(const ChainLink<T>& link, const Prepared& prepared, float scale) const {
    if (!prepared.valid) return;
    const int first = prepared.first, second = prepared.second;
    const float a = scale * Total(RowOfTile()), b = scale * Total(RowOfTile() + kTilePairs);
    switch (link.kind) {
      case LinkKind::kAttnIn:
        return link.attn_in.Finish(prepared.attn_in, first, second, Token(), a, b);
      case LinkKind::kMlpUp:
        return link.mlp_up.Finish({}, first, second, Token(), a, b);
      case LinkKind::kStore:
        return link.store.Finish(prepared.store, first, second, Token(), a, b);
      case LinkKind::kStoreF32:
        return link.store_f32.Finish(link.store_f32.Prepare(first, second, Token()), first, second, Token(), a, b);
    }
  }

  const ChainParams<T>& params_;
  const int warp_, lane_;
  Barrier *full_, *empty_, *norm_full_, *ready_;
  float *squares_, *sums_, *norm_;
  std::byte* stages_;
  RingCursor at_;
  RingCursor landed_;  // of the producer, as `flying_`
  int flying_ = 0;
  uint32_t norm_parity_ = 0;
  const std::byte* in_ = nullptr;  // the token of this thread's row of fragments; null: none
  int end_ = 0;                    // bytes of it from this thread's first piece on
};

#endif

template <typename T>
__global__ void __launch_bounds__(kChainThreads, 1) RunChain(const __grid_constant__ ChainParams<T> params) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) std::byte shared[];
  ChainWalk<T> walk(params, shared);
  const bool produces = threadIdx.x == kConsumerWarps * 32;
  if (produces) walk.Init();
  LetSuccessorStart();
  __syncthreads();
  if (produces) {
    walk.Produce();
  } else if (threadIdx.x >= kThreads) {
    walk.Synchronise();
  } else if (threadIdx.x < kConsumerWarps * 32) {
    walk.Consume();
  }
#endif
}

}  // namespace berth::kernels::cuda::stream
