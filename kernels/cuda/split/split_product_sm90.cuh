#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/split/split_epilogues.cuh"
#include "kernels/cuda/split/split_params.h"
#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/cluster.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/products_sm90.cuh"
#include "kernels/cuda/util/sm90.cuh"

namespace berth::kernels::cuda::split {

constexpr int Threads(int sets) { return sets * 128 + 32; }  // the last warp produces

#ifdef BERTH_HAS_SM90A

// A tile is some tokens, 64 for each of kSets groups of four warps, the M of their products, by kWidth rows of the weight, the
// N. kRanks blocks of a cluster have a part of K each. When a block's sums are ready, it sends every other block those of its
// tokens, and adds up in the order of ranks what came for its own, kGroups groups of eight in a set. Sums lie where the stages
// were, all but that of the last step: blocks say that theirs are free while their last products run. One thread copies, the
// weight's first stages before the grid dependency wait. A cluster has the tiles of kColumns times as many rows of the weight,
// which copy the tokens together, and of kParts parts of the tokens, which copy the weight together.
template <typename T, int kWidth, int kRanks, int kColumns, int kParts, int kSets, typename Epilogue>
class Walk {
 public:
  static constexpr int kStages = Stages(kWidth, kSets, kSets* Epilogue::SharedBytes(kWidth, kRanks));
  static constexpr int kStageBytes = StageBytes(kWidth, kSets), kTokenBytes = kSets * kSetTokens * kStep * 2;
  static constexpr int kGroups = kSetTokens / 8 / kRanks;
  static constexpr int kPieces = kWidth / 16;  // of a group's sums: a float4 of every lane
  static constexpr int kStride = 4 / kGroups;  // pieces of a group that four warps finish at once
  static constexpr int kRounds = (kPieces + kStride - 1) / kStride;
  static constexpr int kBlocks = kRanks * kColumns * kParts;  // of a cluster
  static constexpr int kFillers = kColumns + kParts - 1;      // that copy to a block
  static constexpr int kSumBytes = kGroups * kPieces * 512;   // that one block sends another
  static_assert(kSets * kRanks * kSumBytes <= (kStages - 1) * kStageBytes);

  __device__ Walk(const SplitParams& params, const Epilogue& epilogue, std::byte* shared)
      : params_(params),
        epilogue_(epilogue),
        shared_(shared),
        set_(threadIdx.x / 128),
        warp_(threadIdx.x / 32 % 4),
        column_(ClusterRank() % kColumns),
        part_(ClusterRank() / kColumns % kParts),
        rank_(ClusterRank() / (kColumns * kParts)) {
    tile_ = blockIdx.x / kBlocks * kColumns + column_;
    token_end_ = min(params.token_count, (part_ + 1) * params.token_rows);
    full_ = reinterpret_cast<Barrier*>(shared + kStages * kStageBytes);
    empty_ = full_ + kStages;
    free_ = empty_ + kStages;
    gathered_ = free_ + 1;
    first_ = rank_ * params.steps / kRanks;
    count_ = (rank_ + 1) * params.steps / kRanks - first_;
    stage_ = (count_ - 1) % kStages;  // counts down, so that the last step has stage 0
  }

  // One thread: everything that may come before the grid dependency wait.
  __device__ void Start() {
    PrefetchMap(&params_.weight);
    PrefetchMap(&params_.tokens);
#pragma unroll 1
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(full_ + i, 1);
      InitBarrier(empty_ + i, 4 * kSets * kFillers);
    }
    InitBarrier(free_, 4 * kSets * kRanks);
    InitBarrier(gathered_, 1);
    PublishBarriers();
    int bytes = 0;
    for (int set = 0; set < kSets; ++set) {
      const int tokens = min(max(token_end_ - FirstToken(set), 0), kGroups * 8);
      bytes += (tokens + 7) / 8 * kPieces * 512;
    }
    ArriveAndExpect(gathered_, (kRanks - 1) * bytes);
  }

  // The same thread, of the weight what there are stages for. Not before the others' barriers are published where it is copied
  // together.
  __device__ void BringWeight() {
    int stage = stage_;
#pragma unroll 1
    for (int i = 0; i < min(count_, kStages); ++i, Next(stage)) CopyWeight(i, stage);
  }

  // The same thread.
  __device__ void Produce() {
    const int early = min(count_, kStages);
    int stage = stage_;
#pragma unroll 1
    for (int i = 0; i < early; ++i, Next(stage)) CopyTokens(i, stage);
    uint32_t phases = 0;
#pragma unroll 1
    for (int i = early; i < count_; ++i, Next(stage)) {
      WaitFor(empty_ + stage, phases >> stage & 1);
      phases ^= 1 << stage;
      CopyWeight(i, stage);
      CopyTokens(i, stage);
    }
  }

  // All other threads, before they wait for the inputs.
  __device__ void Consume() {
    const int lane = threadIdx.x % 32, group = warp_ % kGroups, piece = warp_ / kGroups, first = FirstToken(set_);
    const Place place{.tile = tile_,
                      .first_token = first,
                      .token = first + group * 8 + lane / 4,
                      .token_count = token_end_,
                      .piece = piece,
                      .lane = lane};
    typename Epilogue::template Own<kWidth, kStride, kRounds> own(
        epilogue_, place, shared_ + kStages * kStageBytes + kBarrierBytes + set_ * Epilogue::SharedBytes(kWidth, kRanks));
    sm90::ClearRows(Stage(0) + set_ * kSetTokens * kStep * 2, kStages, kStageBytes, params_.token_rows - set_ * kSetTokens,
                    count_, 1 + set_);
    WaitForInputs();
    own.Fetch();
    float c[kWidth / 8][4];
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j) c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0;
    Multiply(c, lane);
    Send(c, lane);
    WaitForCluster(gathered_, 0);
    SyncSet();
    const float4* const from = Sums() + (group * kPieces + piece) * 32 + lane;
#pragma unroll
    for (int r = 0; r < kRounds; ++r) {
      if (piece + r * kStride >= kPieces) break;
      float4 sum = from[r * kStride * 32];
#pragma unroll
      for (int rank = 1; rank < kRanks; ++rank) {
        const float4 part = from[rank * kSumBytes / 16 + r * kStride * 32];
        sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
      }
      own.Finish(r, sum);
    }
  }

 private:
  __device__ static void Next(int& stage) { stage = stage == 0 ? kStages - 1 : stage - 1; }
  __device__ void SyncSet() const { sm90::SyncWarpgroup(1 + set_); }
  __device__ std::byte* Stage(int stage) const { return shared_ + stage * kStageBytes; }
  // Of those of a set that the block finishes.
  __device__ int FirstToken(int set) const { return part_ * params_.token_rows + set * kSetTokens + rank_ * kGroups * 8; }
  // Of the cluster.
  __device__ static int BlockOf(int rank, int part, int column) { return (rank * kParts + part) * kColumns + column; }

  // Announces a stage.
  __device__ void CopyWeight(int step, int stage) {
    ArriveAndExpect(full_ + stage, (params_.token_rows + kWidth) * kStep * 2);
    std::byte* const to = Stage(stage) + kTokenBytes;
    const int column = (first_ + step) * kStep;
    if constexpr (kParts > 1) {
      static_assert(!Epilogue::kPaired);
      constexpr int kRows = kWidth / kParts;
      int blocks = 0;
      for (int part = 0; part < kParts; ++part) blocks |= 1 << BlockOf(rank_, part, column_);
      TensorCopyToAll(to + part_ * kRows * kStep * 2, &params_.weight, column, tile_ * kWidth + part_ * kRows, full_ + stage,
                      blocks, StreamingPolicy());
    } else if constexpr (Epilogue::kPaired) {
      const int tiles = epilogue_.finish.head_dim / kWidth;
      TensorCopy(to, &params_.weight, column, 0, 0, tile_ % tiles * (kWidth / 16), tile_ / tiles, full_ + stage,
                 StreamingPolicy());
    } else {
      TensorCopy(to, &params_.weight, column, tile_ * kWidth, full_ + stage, StreamingPolicy());
    }
  }
  __device__ void CopyTokens(int step, int stage) {
    const int column = (first_ + step) * kStep, first = part_ * params_.token_rows;
    if constexpr (kColumns > 1) {
      const int row = column_ * params_.token_box;
      if (row >= params_.token_rows) return;
      TensorCopyToAll(Stage(stage) + row * kStep * 2, &params_.tokens, column, first + row, full_ + stage,
                      ((1 << kColumns) - 1) << BlockOf(rank_, part_, 0), NormalPolicy());
    } else {
      TensorCopy(Stage(stage), &params_.tokens, column, first, full_ + stage, NormalPolicy());
    }
  }

  // To all whose copies fill the stage.
  __device__ void Release(int stage, int lane) {
    if (lane >= kFillers) return;
    const int part = lane - kColumns, other = part < part_ ? part : part + 1;
    ArriveAt(AddressAt(SharedAddress(empty_ + stage),
                       lane < kColumns ? BlockOf(rank_, part_, lane) : BlockOf(rank_, other, column_)));
  }

  __device__ void Multiply(float (&c)[kWidth / 8][4], int lane) {
    int stage = stage_, before = 0, step = 0;
    uint32_t phases = 0;
#pragma unroll 1
    do {
      WaitFor(full_ + stage, phases >> stage & 1);
      phases ^= 1 << stage;
      const uint32_t at = SharedAddress(Stage(stage));
      const uint64_t a = sm90::Descriptor(at + set_ * kSetTokens * kStep * 2), b = sm90::Descriptor(at + kTokenBytes);
      sm90::FenceProducts();
#pragma unroll
      for (int k = 0; k < kStep / 16; ++k) sm90::MultiplyTile<T, kWidth>(c, a + 2 * k, b + 2 * k);  // 32 bytes, in units of 16
      sm90::CommitProducts();
      sm90::WaitForProducts<1>();
      // Only if it is filled again: of others nobody may be left to hear.
      if (step > 0 && step + kStages <= count_) Release(before, lane);
      if (step == count_ - 1 && lane < kRanks) ArriveAt(AddressAt(SharedAddress(free_), BlockOf(lane, part_, column_)));
      before = stage;
      Next(stage);
    } while (++step < count_);
    sm90::WaitForProducts<0>();
    sm90::Settle(c);
  }

  // Sums in the order of products' registers: [rank that sends][group][piece][lane].
  __device__ float4* Sums() const { return reinterpret_cast<float4*>(Stage(1) + set_ * kRanks * kSumBytes); }

  __device__ void Send(const float (&c)[kWidth / 8][4], int lane) {
    const uint32_t gathered = SharedAddress(gathered_);
    WaitFor(free_, 0);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int group = warp_ * 2 + i, to = group / kGroups;
      if (part_ * params_.token_rows + set_ * kSetTokens + group * 8 >= token_end_) continue;
      float4* const at = Sums() + (rank_ * kGroups + group % kGroups) * kPieces * 32 + lane;
      const auto value = [&](int j) {
        return float4{c[2 * j][2 * i], c[2 * j][2 * i + 1], c[2 * j + 1][2 * i], c[2 * j + 1][2 * i + 1]};
      };
      if (to == rank_) {
#pragma unroll
        for (int j = 0; j < kPieces; ++j) at[j * 32] = value(j);
      } else {
        const int block = BlockOf(to, part_, column_);
        const uint32_t there = AddressAt(SharedAddress(at), block), barrier = AddressAt(gathered, block);
#pragma unroll
        for (int j = 0; j < kPieces; ++j) StoreAsync(there + j * 512, value(j), barrier);
      }
    }
  }

  const SplitParams& params_;
  const Epilogue& epilogue_;
  std::byte* const shared_;
  const int set_, warp_;  // of four
  const int column_, part_, rank_;
  int tile_, token_end_, first_, count_, stage_;
  Barrier *full_, *empty_;
  Barrier *free_, *gathered_;  // all blocks' stages; the sums
};

#endif

template <typename T, int kWidth, int kRanks, int kColumns, int kParts, int kSets, typename Epilogue>
__global__ void __launch_bounds__(Threads(kSets), 1)
    SplitProduct(const __grid_constant__ SplitParams params, const __grid_constant__ Epilogue epilogue) {
#ifdef BERTH_HAS_SM90A
  extern __shared__ __align__(1024) std::byte split_shared[];
  Walk<T, kWidth, kRanks, kColumns, kParts, kSets, Epilogue> walk(params, epilogue, split_shared);
  if (threadIdx.x == kSets * 128) {
    walk.Start();
    if (kParts == 1) walk.BringWeight();
  }
  LetSuccessorStart();
  __syncthreads();
  // All have published their barriers; nothing else has to be seen.
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  if (threadIdx.x < kSets * 128) {
    walk.Consume();
  } else {
    if (kParts > 1 && threadIdx.x == kSets * 128) walk.BringWeight();
    WaitForInputs();
    if (threadIdx.x == kSets * 128) walk.Produce();
  }
#endif
}

}  // namespace berth::kernels::cuda::split
