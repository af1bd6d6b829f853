#pragma once

#include <type_traits>

#include "kernels/cuda/attend/decode_plan.cuh"
#include "kernels/cuda/attend/sm80.cuh"

// The KV blocks of the steps of a thread block, in their order: those of the first steps are planned. Queue() comes before the
// last of the first kStages - 1 commits, Next() for every step, and Follow() says which one comes after it, if there is one.
// Every step ends with the commit of its group of copies. All lanes of a warp call together.
namespace berth::kernels::cuda {

// Read one by one, a step ahead: what a few entries want, whose blocks have little to do.
template <typename Shape>
class NearBlocks {
 public:
  __device__ NearBlocks(const DecodeParams& params, const DecodeStart<Shape>& start) : params_(params), planned_(start.block) {}
  __device__ void Queue() {}
  __device__ int Next() {
    const int block = next_ < Shape::kPlannedBlocks ? planned_[next_] : read_;
    ++next_;
    return block;
  }
  __device__ void Follow(const DecodeCursor<Shape>& at) {
    if (next_ >= Shape::kPlannedBlocks) read_ = *BlockOf(params_.attend, at);
  }

 private:
  const DecodeParams& params_;
  const int32_t* const planned_;
  int next_ = 0, read_ = 0;
};

// From a memory that is busy with keys and values they would come too late that way: they are copied to shared memory 32 at a
// time, by a lane each, at least 32 steps ahead and in the group of a step's keys and values.
template <typename Shape>
class FarBlocks {
 public:
  __device__ FarBlocks(const DecodeParams& params, const DecodeStart<Shape>& start)
      : params_(params), lane_step_(start.cursor), end_(start.range.End(blockIdx.x)) {
    __shared__ int32_t batches[Shape::kWarps][2 * kBatch];
    batches_ = batches[threadIdx.x / 32];
    if (Lane() < Shape::kPlannedBlocks) batches_[Lane()] = start.block[Lane()];
    __syncwarp();
  }

  __device__ void Queue() {
    Skip(Lane());
    if (Lane() >= Shape::kPlannedBlocks) CopyBatch(0);
    Skip(kBatch);
    CopyBatch(kBatch);
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
  static_assert(Shape::kPlannedBlocks < kBatch);

  __device__ static int Lane() { return threadIdx.x % kBatch; }
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
    if (lane_step_.place < end_) CopyWordAsync(SharedAddress(batches_ + to + Lane()), BlockOf(params_.attend, lane_step_));
  }

  const DecodeParams& params_;
  DecodeCursor<Shape> lane_step_;  // this lane's step of the latest batch
  int64_t end_;
  int32_t* batches_;
  int next_ = 0;
};

template <typename Shape>
using StepBlocks = std::conditional_t<Shape::kFew, NearBlocks<Shape>, FarBlocks<Shape>>;

}  // namespace berth::kernels::cuda
