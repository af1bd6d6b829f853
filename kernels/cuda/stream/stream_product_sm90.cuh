#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/stream/stream_plan.h"
#include "kernels/cuda/stream/walk.cuh"
#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/mma.cuh"
#include "kernels/cuda/util/norm.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda::stream {

// Products of few tokens, bound by the bytes of the weight. As many CTAs as run at once own equal runs of tiles. A tile is 16
// rows of the weight, the M of one tensor core instruction: eight rows and the eight whose results an epilogue needs together
// with theirs (gate and up; the two halves of a rotated pair). A tile is walked over K in chunks, one tensor copy each. A
// producer warp keeps `stages` chunks in flight, the first ones before the grid dependency wait: weights never change. A CTA
// takes less than half of an SM's shared memory, so that another CTA, of this kernel or the next, is there with its chunks
// under way. Consumer warps cut every chunk among them by K and add up in the order of warps: equal inputs give equal bits.
//
// The tokens come along with the weight's chunks: with those of the first tile, and stay, or with those of every tile. An RMS
// norm needs no pass of its own: a fragment is multiplied with the norm's weight when it is first used, its squares are added
// up on the way, and the results are scaled by the reciprocal root at the end. (So in f16 a value times its norm weight has to
// stay in f16's range.)
//
// Inside a row the order of K is free as long as weight and tokens agree: a thread takes 16 bytes of a row, eight consecutive
// elements, as its share of two instructions.
struct StreamParams {
  CUtensorMap map{};        // the weight [rows, k] as tiles, see MapInputs
  CUtensorMap token_map{};  // the tokens [tokens, k]; unused if `row` picks them
  int64_t k = 0;
  int rows = 0;
  int run = 0;    // 0: a tile is 16 neighbouring rows; else row r of every 2 * run goes with row r + run
  int tiles = 0;  // of all rows
  int tiles_of_run = 0;
  int tokens = 0;
  const std::byte* in = nullptr;
  int64_t in_stride = 0;         // bytes
  const int32_t* row = nullptr;  // which rows of `in` are the tokens; null: the first ones
  NormView norm;
  StreamPlan plan;
};

#if __CUDA_ARCH__ >= 900

// One CTA's share of the work and its shared memory.
template <typename T, bool kNormed, typename Epilogue>
class Walk {
 public:
  __device__ Walk(const StreamParams& params, const Epilogue& epilogue, std::byte* shared)
      : params_(params), epilogue_(epilogue), warp_(threadIdx.x / 32), lane_(threadIdx.x % 32) {
    const auto share = [&](int64_t i) { return static_cast<int>(i * params.tiles / gridDim.x); };
    first_tile_ = share(blockIdx.x);
    tiles_ = share(blockIdx.x + 1) - first_tile_;
    chunks_ = static_cast<int>((params.k + params.plan.chunk - 1) / params.plan.chunk);
    full_ = reinterpret_cast<Barrier*>(shared);
    empty_ = full_ + kMaxStages;
    norm_full_ = empty_ + kMaxStages;
    squares_ = reinterpret_cast<float*>(shared + kBarrierBytes);
    sums_ = reinterpret_cast<float*>(shared + kBarrierBytes + kSquareBytes);
    norm_ = sums_ + kSumBytes / sizeof(float);
    x_ = reinterpret_cast<std::byte*>(norm_) + (kNormed ? NormBytes(params.k) : 0);
    stages_ = x_ + (params.plan.resident ? chunks_ * TokenBytes(params.plan.chunk, params.tokens) : 0);
  }

  // Producer: everything that may come before the grid dependency wait.
  __device__ void Start() {
    if (lane_ == 0) {
      PrefetchMap(&params_.map);
      PrefetchMap(&params_.token_map);
      for (int i = 0; i < params_.plan.stages; ++i) {
        InitBarrier(full_ + i, 1);
        InitBarrier(empty_ + i, kConsumerWarps);
      }
      InitBarrier(norm_full_, 1);
      PublishBarriers();
    }
    __syncwarp();
    policy_ = StreamingPolicy();
    for (int i = 0; i < params_.plan.stages && weights_.tile < tiles_; ++i) IssueWeights();
    if (Norms() && lane_ == 0) {
      const auto bytes = static_cast<uint32_t>(params_.k * sizeof(float));
      ArriveAndExpect(norm_full_, bytes);
      BulkCopy(norm_, params_.norm.weight, bytes, norm_full_);
    }
  }

  __device__ void Produce() {
    if (params_.row != nullptr && lane_ < params_.tokens) token_ = params_.in + params_.row[lane_] * params_.in_stride;
    for (int i = 0; i < params_.plan.stages && tokens_.tile < tiles_; ++i) IssueTokens();
    while (weights_.tile < tiles_) {
      WaitFor(empty_ + weights_.stage, weights_.parity ^ 1);
      IssueWeights();
      IssueTokens();
    }
  }

  __device__ void Consume() {
    const int j = threadIdx.x % kTilePairs, token = threadIdx.x / kTilePairs;
    float scale = 1;  // of the thread's token
    if (Norms()) WaitFor(norm_full_, 0);
    for (int tile = 0; tile < tiles_; ++tile) {
      const Pair pair = PairOf(first_tile_ + tile, j);
      const bool finishes = token < params_.tokens && pair.valid;
      typename Epilogue::Prepared prepared{};
      if (finishes) {
        prepared = epilogue_.Prepare(pair.first, pair.second, token);
        epilogue_.Resolve(prepared, pair.first, token);
      }
      float sum[4] = {}, squares = 0;
      for (int chunk = 0; chunk < chunks_; ++chunk) {
        WaitFor(full_ + weights_.stage, weights_.parity);
        if (Norms() && TokensArrive(tile)) {
          Multiply<true>(sum, squares);
        } else {
          Multiply<false>(sum, squares);
        }
        __syncwarp();
        if (lane_ == 0) Arrive(empty_ + weights_.stage);
        weights_.Advance(chunks_, params_.plan.stages);
      }
      if (Norms() && tile == 0) PutSquares(squares);
      const float* sums = Exchange(tile, sum);
      if (Norms() && tile == 0 && token < params_.tokens) scale = InverseRoot(token);
      if (finishes) {
        epilogue_.Finish(prepared, pair.first, pair.second, token, scale * Total(sums, j, token),
                         scale * Total(sums, j + kTilePairs, token));
      }
    }
  }

 private:
  struct Pair {
    int first, second;  // rows of the weight
    bool valid;
  };

  __device__ Pair PairOf(int tile, int j) const {
    if (params_.run == 0) return {tile * kTileRows + j, tile * kTileRows + j + kTilePairs, tile * kTileRows + j < params_.rows};
    const int run = tile / params_.tiles_of_run, at = tile % params_.tiles_of_run * kTilePairs + j;
    const int first = run * 2 * params_.run + at;
    return {first, first + params_.run, at < params_.run};
  }

  __device__ bool Norms() const { return kNormed && params_.norm.weight != nullptr; }
  __device__ bool TokensArrive(int tile) const { return tile == 0 || !params_.plan.resident; }
  __device__ uint32_t ChunkBytes(int chunk) const {
    const int64_t left = params_.k - static_cast<int64_t>(chunk) * params_.plan.chunk;
    return static_cast<uint32_t>(min(static_cast<int64_t>(params_.plan.chunk), left) * sizeof(T));
  }
  __device__ std::byte* Stage(int stage) const {
    return stages_ + stage * StageBytes(params_.plan.chunk, params_.plan.resident ? 0 : params_.tokens);
  }

  // The stage's weights, and the bytes of all it will hold.
  __device__ void IssueWeights() {
    if (lane_ == 0) {
      const int tile = first_tile_ + weights_.tile;
      const int run = params_.run == 0 ? 0 : tile / params_.tiles_of_run;
      const int row = params_.run == 0 ? tile * kTileRows : tile % params_.tiles_of_run * kTilePairs;
      Barrier* full = full_ + weights_.stage;
      uint32_t bytes = WeightBytes(params_.plan.chunk);
      if (TokensArrive(weights_.tile)) {
        bytes += params_.tokens * (params_.row == nullptr ? params_.plan.chunk * sizeof(T) : ChunkBytes(weights_.chunk));
      }
      ArriveAndExpect(full, bytes);
      TensorCopy(Stage(weights_.stage), &params_.map, weights_.chunk * params_.plan.chunk / kMapElements, row, 0, run, full,
                 policy_);
    }
    __syncwarp();
    weights_.Advance(chunks_, params_.plan.stages);
  }

  // Where the tokens of a chunk lie: [token][chunk].
  __device__ std::byte* Tokens(const Cursor& at) const {
    return params_.plan.resident ? x_ + at.chunk * TokenBytes(params_.plan.chunk, params_.tokens)
                                 : Stage(at.stage) + WeightBytes(params_.plan.chunk);
  }

  __device__ void IssueTokens() {
    if (TokensArrive(tokens_.tile)) {
      std::byte* to = Tokens(tokens_);
      Barrier* full = full_ + tokens_.stage;
      const int first = tokens_.chunk * params_.plan.chunk;
      if (params_.row == nullptr) {
        if (lane_ == 0) TensorCopy(to, &params_.token_map, first / kMapElements, 0, 0, 0, full, NormalPolicy());
      } else if (lane_ < params_.tokens) {
        BulkCopy(to + lane_ * params_.plan.chunk * sizeof(T), token_ + first * sizeof(T), ChunkBytes(tokens_.chunk), full);
      }
      __syncwarp();
    }
    tokens_.Advance(chunks_, params_.plan.stages);
  }

  // This warp's share of the chunk that has arrived: blocks of 32 along K. kNew: of tokens that have to be normed first.
  template <bool kNew>
  __device__ void Multiply(float (&sum)[4], float& squares) const {
    const bool resident = params_.plan.resident;
    const int stride = params_.plan.chunk * static_cast<int>(sizeof(T)), group = lane_ / 4, offset = lane_ % 4 * 16;
    const std::byte* weight = Stage(weights_.stage) + group * stride + offset;
    std::byte* x = Tokens(weights_) + group * stride + offset;
    const float* norm_at = norm_ + weights_.chunk * params_.plan.chunk + offset / sizeof(T);
    const int blocks = ChunkBytes(weights_.chunk) / kBlockBytes;
#pragma unroll 2
    for (int block = warp_; block < blocks; block += kConsumerWarps) {
      const uint4 low = *reinterpret_cast<const uint4*>(weight + block * kBlockBytes);
      const uint4 high = *reinterpret_cast<const uint4*>(weight + kTilePairs * stride + block * kBlockBytes);
      float norm[8];
      if (kNew) Load<8>(norm_at + block * kBlockBytes / sizeof(T), norm);
      uint4 token{};
      if (group < params_.tokens) {
        auto* from = reinterpret_cast<uint4*>(x + block * kBlockBytes);
        token = *from;
        if (kNew) {
          squares += Scale<T>(norm, params_.norm.weight_offset, token);
          if (resident) *from = token;
        }
      }
      Mma<T>(sum, low.x, high.x, low.y, high.y, token.x, token.y);
      Mma<T>(sum, low.z, high.z, low.w, high.w, token.z, token.w);
    }
  }

  // The tokens' squares as this warp saw them, to be read after the next Exchange: [warp][token].
  __device__ void PutSquares(float squares) {
    squares += __shfl_xor_sync(~0u, squares, 1);
    squares += __shfl_xor_sync(~0u, squares, 2);
    if (lane_ % 4 == 0) squares_[warp_ * kMaxTokens + lane_ / 4] = squares;
  }

  __device__ float InverseRoot(int token) const {
    float squares = 0;
    for (int warp = 0; warp < kConsumerWarps; ++warp) squares += squares_[warp * kMaxTokens + token];
    return rsqrtf(squares / static_cast<float>(params_.k) + params_.norm.epsilon);
  }

  // Puts every warp's part where all can read it: [warp][row][token]. Two areas in turn, so that one barrier a tile is enough.
  __device__ const float* Exchange(int tile, const float (&sum)[4]) {
    float* area = sums_ + tile % 2 * (kConsumerWarps * kTileRows * kMaxTokens);
    float* to = area + (warp_ * kTileRows + lane_ / 4) * kMaxTokens + lane_ % 4 * 2;
    *reinterpret_cast<float2*>(to) = {sum[0], sum[1]};
    *reinterpret_cast<float2*>(to + kTilePairs * kMaxTokens) = {sum[2], sum[3]};
    SyncConsumers();
    return area;
  }

  __device__ static float Total(const float* sums, int row, int token) {
    float total = 0;
#pragma unroll
    for (int warp = 0; warp < kConsumerWarps; ++warp) total += sums[(warp * kTileRows + row) * kMaxTokens + token];
    return total;
  }

  const StreamParams& params_;
  const Epilogue& epilogue_;
  const int warp_, lane_;
  int first_tile_, tiles_, chunks_;
  Barrier *full_, *empty_, *norm_full_;
  float *squares_, *sums_, *norm_;
  std::byte *x_, *stages_;
  const std::byte* token_ = nullptr;
  uint64_t policy_ = 0;
  Cursor weights_, tokens_;
};

#endif

template <typename T, bool kNormed, typename Epilogue>
__global__ void __launch_bounds__(kThreads)
    StreamProduct(const __grid_constant__ StreamParams params, const __grid_constant__ Epilogue epilogue) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) std::byte shared[];
  Walk<T, kNormed, Epilogue> walk(params, epilogue, shared);
  const bool produces = threadIdx.x >= kConsumerWarps * 32;
  if (produces) walk.Start();
  LetSuccessorStart();
  __syncthreads();
  WaitForInputs();
  if (produces) {
    walk.Produce();
  } else {
    walk.Consume();
  }
#endif
}

// `Epilogue` is a plain struct with, for a pair of rows of the weight (the second of a tile without runs may lie behind the
// last)
//   Prepared Prepare(int first, int second, int token): begins to load what Finish needs
//   void Resolve(Prepared&, int first, int token): the same for what depends on these loads, some time later
//   void Finish(const Prepared&, int first, int second, int token, float first_sum, float second_sum)
// `params` comes from StreamParamsOf. T: the activations' type.
template <typename T, bool kNormed, typename Epilogue>
void LaunchStream(Context& context, const StreamParams& params, const Epilogue& epilogue) {
  const dim3 grid(std::min(params.tiles, context.multiprocessors * context.stream_tuning.ctas_per_sm));
  Launch(context, StreamProduct<T, kNormed, Epilogue>, grid, kThreads, params.plan.shared_bytes, params, epilogue);
}

}  // namespace berth::kernels::cuda::stream
