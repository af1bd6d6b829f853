#pragma once

#include <cstdint>

#include "kernels/cuda/stream/walk.cuh"
#include "kernels/cuda/stream/wide_params.cuh"
#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/cluster.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/products_sm90.cuh"
#include "kernels/cuda/util/sm90.cuh"

namespace berth::kernels::cuda::stream {

#ifdef BERTH_HAS_SM90A

template <typename T, int kTokens, bool kNormed, typename Epilogue>
class WideWalk {
 public:
  __device__ WideWalk(const WideParams& params, const Epilogue& epilogue, std::byte* shared)
      : params_(params), epilogue_(epilogue), warp_(threadIdx.x / 32), lane_(threadIdx.x % 32), stages_(shared) {
    rank_ = ClusterRank();
    ranks_ = ClusterRanks();
    slice_ = kTokens / ranks_;
    slice_bits_ = __ffs(slice_) - 1;
    cluster_ = blockIdx.x / ranks_;
    clusters_ = gridDim.x / ranks_;
    tiles_ = (params.tiles - cluster_ + clusters_ - 1) / clusters_;
    const int chunks = static_cast<int>(params.k / kWideChunk);
    first_chunk_ = rank_ * chunks / ranks_;
    chunks_ = (rank_ + 1) * chunks / ranks_ - first_chunk_;
    sums_ = reinterpret_cast<float4*>(shared + params.stages * WideStageBytes(kTokens));
    squares_ = reinterpret_cast<float*>(sums_ + kTokens / 2 * kWideSumStride);
    full_ = reinterpret_cast<Barrier*>(squares_ + kTokens);
    empty_ = full_ + kWideMaxStages;
    gathered_ = empty_ + kWideMaxStages;
  }

  // Producer: everything that may come before the grid dependency wait.
  __device__ void Start() {
    if (lane_ == 0) {
      PrefetchMap(&params_.map);
      PrefetchMap(&params_.token_map);
      for (int i = 0; i < params_.stages; ++i) {
        InitBarrier(full_ + i, 1);
        InitBarrier(empty_ + i, kConsumerWarps);
      }
      InitBarrier(gathered_, 1);
      PublishBarriers();
      for (int i = 0; i < params_.stages && weights_.tile < tiles_; ++i) IssueWeights();
    }
    __syncwarp();
  }

  // The producer's first lane.
  __device__ void Produce() {
    for (int i = 0; i < params_.stages && tokens_.tile < tiles_; ++i) IssueTokens();
    while (weights_.tile < tiles_) {
      WaitFor(empty_ + weights_.stage, weights_.parity ^ 1);
      IssueWeights();
      IssueTokens();
    }
  }

  __device__ void Consume() {
    const int mine = max(0, min(params_.tokens - rank_ * slice_, slice_));
    const int local = threadIdx.x / kWidePairs;
    for (int tile = 0; tile < tiles_; ++tile) {
      if (ranks_ > 1 && threadIdx.x == 0) {
        ArriveAndExpect(gathered_,
                        ranks_ * ((mine + 1) / 2 * kWidePairs * sizeof(float4) + (Norms() ? mine * sizeof(float) : 0)));
      }
      const Pair pair = PairOf(cluster_ + tile * clusters_, threadIdx.x % kWidePairs);
      const int last = pair.valid ? mine : 0;
      typename Epilogue::Prepared prepared{};
      if (local < last) prepared = Prepare(pair, local);
      float sum[kTokens / 8][4] = {}, squares[kVectors] = {};
      Multiply(sum, squares);
      Send(sum, squares);
      if (ranks_ == 1) {
        SyncConsumers();
      } else {
        WaitForCluster(gathered_, tile % 2);
      }
      // Not unrolled: instructions that run once cost more time to fetch than to execute.
#pragma unroll 1
      for (int at = local; at < last; at += kStep) {
        typename Epilogue::Prepared next{};
        if (at + kStep < last) next = Prepare(pair, at + kStep);
        Finish(pair, at, prepared);
        prepared = next;
      }
      if (tile + 1 < tiles_) SyncConsumers();  // nobody reads the sums any more
    }
  }

 private:
  struct Pair {
    int first, second;  // rows of the weight
    bool valid;
  };
  static constexpr int kStep = kConsumerWarps * 32 / kWidePairs;                // tokens that are finished at once
  static constexpr int kVectorRows = kConsumerWarps * 32 * 16 / kWideRowBytes;  // tokens that are scaled at once
  static constexpr int kVectors = kTokens < kVectorRows ? 1 : kTokens / kVectorRows;

  __device__ bool Norms() const { return kNormed && params_.norm.weight != nullptr; }
  __device__ std::byte* Stage(int stage) const { return stages_ + stage * WideStageBytes(kTokens); }

  __device__ Pair PairOf(int tile, int p) const {
    if (params_.run == 0) {
      const int first = tile * kWideRows + p / kWideGroup * (2 * kWideGroup) + p % kWideGroup;
      return {first, first + kWideGroup, first < params_.rows};
    }
    const int run = tile / params_.tiles_of_run * params_.runs_of_tile + p / params_.pairs_of_run;
    const int at = tile % params_.tiles_of_run * kWidePairs + p % params_.pairs_of_run;
    const int first = run * 2 * params_.run + at;
    return {first, first + params_.run,
            p < params_.runs_of_tile * params_.pairs_of_run && at < params_.run && first < params_.rows};
  }

  // The place along K, in elements, of the block's chunk `i`.
  __device__ int KOf(int i) const { return (first_chunk_ + i) * kWideChunk; }

  __device__ void IssueWeights() {
    const int tile = cluster_ + weights_.tile * clusters_, k = KOf(weights_.chunk);
    Barrier* full = full_ + weights_.stage;
    const int pairs = params_.run == 0 ? kWidePairs : params_.runs_of_tile * params_.pairs_of_run;
    ArriveAndExpect(full, (2 * pairs + kTokens) * kWideRowBytes);
    if (params_.run == 0) {
      TensorCopy(Stage(weights_.stage), &params_.map, k, tile * kWideRows, 0, 0, 0, full, StreamingPolicy());
    } else {
      TensorCopy(Stage(weights_.stage), &params_.map, k, 0, 0, tile % params_.tiles_of_run * (kWidePairs / kWideGroup),
                 tile / params_.tiles_of_run * params_.runs_of_tile, full, StreamingPolicy());
    }
    weights_.Advance(chunks_, params_.stages);
  }

  __device__ void IssueTokens() {
    TensorCopy(Stage(tokens_.stage) + kWideWeightBytes, &params_.token_map, KOf(tokens_.chunk), 0, full_ + tokens_.stage,
               NormalPolicy());
    tokens_.Advance(chunks_, params_.stages);
  }

  // The block's chunks of a tile, by both groups of warps. Products run behind: a stage is released when those of the next one
  // are queued.
  __device__ void Multiply(float (&sum)[kTokens / 8][4], float (&squares)[kVectors]) {
    const float* norm_at = params_.norm.weight + threadIdx.x % 8 * 8;
    float norm[8];
    if (Norms()) Load<8>(norm_at + KOf(0), norm);
    int previous = 0;
#pragma unroll 1
    for (int chunk = 0; chunk < chunks_; ++chunk) {
      std::byte* stage = Stage(weights_.stage);
      WaitFor(full_ + weights_.stage, weights_.parity);
      if (Norms()) {
        ScaleTokens(stage + kWideWeightBytes, norm, squares);
        if (chunk + 1 < chunks_) Load<8>(norm_at + KOf(chunk + 1), norm);
        sm90::FenceShared();
        SyncConsumers();
      }
      const uint64_t weight = sm90::Descriptor(SharedAddress(stage + warp_ / 4 * (kWideWeightBytes / 2)));
      const uint64_t tokens = sm90::Descriptor(SharedAddress(stage + kWideWeightBytes));
      sm90::FenceProducts();
#pragma unroll
      for (int i = 0; i < kWideChunk / 16; ++i) {
        constexpr int kStepUnits = 16 * 2 / 16;  // 16 elements, in the descriptor's units
        sm90::MultiplyTile<T, kTokens>(sum, weight + i * kStepUnits, tokens + i * kStepUnits);
      }
      sm90::CommitProducts();
      if (chunk > 0) {
        sm90::WaitForProducts<1>();
        if (lane_ == 0) Arrive(empty_ + previous);
      }
      previous = weights_.stage;
      weights_.Advance(chunks_, params_.stages);
    }
    sm90::WaitForProducts<0>();
    sm90::Settle(sum);
    if (lane_ == 0) Arrive(empty_ + previous);
  }

  // The stage's tokens: rows of 128 bytes, whose 16-byte pieces are permuted by the row.
  __device__ void ScaleTokens(std::byte* tokens, const float (&norm)[8], float (&squares)[kVectors]) const {
    const int piece = threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int token = threadIdx.x / 8 + i * kVectorRows;
      if (token >= params_.tokens) continue;
      auto& vector = *reinterpret_cast<uint4*>(tokens + token * kWideRowBytes + (piece ^ token % 8) * 16);
      squares[i] += Scale<T>(norm, params_.norm.weight_offset, vector);
    }
  }

  // To where this block has `to`.
  template <typename Value>
  __device__ void SendTo(int rank, Value* to, Value value) const {
    StoreAsync(AddressAt(SharedAddress(to), rank), value, AddressAt(SharedAddress(gathered_), rank));
  }

  __device__ void Send(const float (&sum)[kTokens / 8][4], const float (&squares)[kVectors]) const {
    const int pair = warp_ * kWideGroup + lane_ / 4;
#pragma unroll
    for (int n = 0; n < kTokens / 8; ++n) {
      const int token = n * 8 + lane_ % 4 * 2;
      float4* to = sums_ + (rank_ * slice_ + (token & (slice_ - 1))) / 2 * kWideSumStride + pair;
      const float4 value{sum[n][0], sum[n][2], sum[n][1], sum[n][3]};
      if (ranks_ == 1) {
        *to = value;
      } else if (token < params_.tokens) {
        SendTo(token >> slice_bits_, to, value);
      }
    }
    if (!Norms()) return;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      float total = squares[i];
      for (int lane = 1; lane < 8; lane *= 2) total += __shfl_xor_sync(~0u, total, lane);
      const int token = threadIdx.x / 8 + i * kVectorRows;
      if (threadIdx.x % 8 != 0 || token >= params_.tokens) continue;
      float* to = squares_ + rank_ * slice_ + (token & (slice_ - 1));
      if (ranks_ == 1) {
        *to = total;
      } else {
        SendTo(token >> slice_bits_, to, total);
      }
    }
  }

  // For a token of the block's slice.
  __device__ typename Epilogue::Prepared Prepare(const Pair& pair, int local) const {
    const int token = rank_ * slice_ + local;
    typename Epilogue::Prepared prepared = epilogue_.Prepare(pair.first, pair.second, token);
    epilogue_.Resolve(prepared, pair.first, token);
    return prepared;
  }

  __device__ void Finish(const Pair& pair, int local, const typename Epilogue::Prepared& prepared) const {
    float2 total{};
    float squares = 0;
#pragma unroll
    for (int rank = 0; rank < kWideMaxRanks; ++rank) {
      if (rank >= ranks_) continue;
      const int slot = rank * slice_ + local;
      const float2 part =
          reinterpret_cast<const float2*>(sums_ + slot / 2 * kWideSumStride + threadIdx.x % kWidePairs)[slot % 2];
      total.x += part.x;
      total.y += part.y;
      if (Norms()) squares += squares_[slot];
    }
    const float scale = Norms() ? rsqrtf(squares / static_cast<float>(params_.k) + params_.norm.epsilon) : 1;
    epilogue_.Finish(prepared, pair.first, pair.second, rank_ * slice_ + local, scale * total.x, scale * total.y);
  }

  const WideParams& params_;
  const Epilogue& epilogue_;
  const int warp_, lane_;
  int rank_, ranks_, slice_, slice_bits_, cluster_, clusters_, tiles_, first_chunk_, chunks_;
  std::byte* stages_;
  float4* sums_;    // [ranks][tokens of this block's slice / 2][pairs]: the pair's for both tokens
  float* squares_;  // [ranks][tokens of this block's slice]
  Barrier *full_, *empty_, *gathered_;
  Cursor weights_, tokens_;
};

#endif

template <typename T, int kTokens, bool kNormed, typename Epilogue>
__global__ void __launch_bounds__(kThreads, 2)
    WideProduct(const __grid_constant__ WideParams params, const __grid_constant__ Epilogue epilogue) {
#ifdef BERTH_HAS_SM90A
  extern __shared__ __align__(1024) std::byte wide_shared[];
  WideWalk<T, kTokens, kNormed, Epilogue> walk(params, epilogue, wide_shared);
  const bool produces = threadIdx.x >= kConsumerWarps * 32;
  if (produces) walk.Start();
  LetSuccessorStart();
  if (ClusterRanks() == 1) {
    __syncthreads();
  } else {
    SyncCluster();
  }
  WaitForInputs();
  if (!produces) {
    walk.Consume();
  } else if (threadIdx.x % 32 == 0) {
    walk.Produce();
  }
#endif
}

}  // namespace berth::kernels::cuda::stream
