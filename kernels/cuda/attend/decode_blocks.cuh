#pragma once

#include <type_traits>

#include "kernels/cuda/attend/decode_plan.cuh"
#include "kernels/cuda/attend/sm80.cuh"

// The KV blocks of the steps of a thread block, in their order. The first kStages - 1 steps call Read() each, then comes
// Await(), then Next() for every other step; Follow() says which step is next, if there is one. Every step ends with the commit
// of its group of copies. All lanes of a warp call together.
namespace berth::kernels::cuda {

template <typename Shape>
__device__ const int32_t* BlockOf(const AttendParams& params, const DecodeCursor<Shape>& at) {
  return params.block_table + at.entry * params.block_table_stride + at.step * Shape::kStepTokens / kKvBlockTokens;
}

// Read one by one, a step ahead: what a few entries want, whose blocks have little to do.
template <typename Shape>
class NearBlocks {
 public:
  __device__ NearBlocks(const DecodeParams& params, const DecodeCursor<Shape>& first, int64_t end)
      : params_(params), next_(first.place < end ? *BlockOf(params.attend, first) : 0) {}
  __device__ int Read(const DecodeCursor<Shape>&) const { return next_; }
  __device__ void Await() {}
  __device__ int Next() const { return next_; }
  __device__ void Follow(const DecodeCursor<Shape>& at) { next_ = *BlockOf(params_.attend, at); }

 private:
  const DecodeParams& params_;
  int next_;
};

// From a memory that is busy with keys and values they would come too late that way: they are copied to shared memory 32 at a
// time, by a lane each, at least 32 steps ahead and in the group of a step's keys and values. Only the first steps do not wait
// for that.
template <typename Shape>
class FarBlocks {
 public:
  // The steps are those from `first` on that begin before place `end`. Commits a group of copies.
  __device__ FarBlocks(const DecodeParams& params, const DecodeCursor<Shape>& first, int64_t end)
      : params_(params), lane_step_(first), end_(end) {
    __shared__ int32_t batches[Shape::kWarps][2 * kBatch];
    batches_ = batches[threadIdx.x / 32];
    Skip(threadIdx.x % kBatch);
    CopyBatch(0);
    Skip(kBatch);
    CopyBatch(kBatch);
    CommitCopies();
  }

  __device__ int Read(const DecodeCursor<Shape>& at) {
    ++next_;
    return *BlockOf(params_.attend, at);
  }
  __device__ void Await() {
    WaitForCopies<Shape::kStages - 1>();
    __syncwarp();
  }
  __device__ int Next() {
    const int block = batches_[next_];
    next_ = (next_ + 1) % (2 * kBatch);
    if (next_ % kBatch == 0) {
      __syncwarp();
      Skip(kBatch);
      CopyBatch(next_ ^ kBatch);
    }
    return block;
  }
  __device__ void Follow(const DecodeCursor<Shape>&) {}

 private:
  static constexpr int kBatch = 32;

  __device__ void Skip(int steps) {
    if (lane_step_.place >= end_) return;
    for (int rest; (rest = lane_step_.end - lane_step_.step) <= steps; steps -= rest) {
      lane_step_.SkipWithinRow(rest - 1);
      if (!lane_step_.AdvanceBefore(end_, params_, params_.heads())) return;
    }
    lane_step_.SkipWithinRow(steps);
  }
  // To the 32 places from `to` on.
  __device__ void CopyBatch(int to) const {
    if (lane_step_.place < end_)
      CopyWordAsync(SharedAddress(batches_ + to + threadIdx.x % kBatch), BlockOf(params_.attend, lane_step_));
  }

  const DecodeParams& params_;
  DecodeCursor<Shape> lane_step_;  // this lane's step of the latest batch
  int64_t end_;
  const int32_t* batches_;
  int next_ = 0;
};

template <typename Shape>
using StepBlocks = std::conditional_t<Shape::kFew, NearBlocks<Shape>, FarBlocks<Shape>>;

}  // namespace berth::kernels::cuda
