#pragma once

#include <cstdint>

#include "kernels/cuda/attend/decode_parts.cuh"
#include "kernels/cuda/attend/params.h"

// How decode attention is dealt out: see decode.cuh. Work is counted in steps of tokens; to end a row takes as long as
// kRowSteps.
namespace berth::kernels::cuda {

inline constexpr int kSliceTokens = 16;
// So many entries take fewer and smaller blocks: there is little to have under way, and the kernels before and behind get room
// beside them.
inline constexpr int kFewEntries = 4;

// A thread block.
template <int kHeadDim, bool kForFew>
struct DecodeShape {
  static constexpr bool kFew = kForFew;
  static constexpr int kDim = kHeadDim;
  static constexpr int kWarps = kDim <= 128 ? 4 : 2;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kStepTokens = kWarps * kSliceTokens;
  static constexpr int kRowSteps = kFew ? 0 : 1;
  static constexpr int kHalfBytes = kSliceTokens * kDim * 2;  // a warp's keys of a step, or its values
  static constexpr int kStageBytes = kWarps * 2 * kHalfBytes;
  // Two of the larger fit on an sm_80 or later with 192 KiB, no more on Hopper, so that all its SMs get as many.
  static constexpr int kSharedBytes = (kFew ? 64 : 96) << 10;
  static constexpr int kBlocksPerMultiprocessor = kFew ? 1 : kMaxDecodeBlocks;
  static constexpr int kStages = kSharedBytes / kStageBytes;
  static constexpr int kOutStride = kDim + 4;  // floats between heads of a warp's part, free of bank conflicts
  static_assert(kStages >= 2 && kDecodeHeads * kOutStride * 4 <= 2 * kHalfBytes);
};

struct DecodeParams {
  AttendParams attend;
  int entries, kv_heads;
  int slices;         // of a group of query heads, each of up to kDecodeHeads
  DecodePart* parts;  // [blocks, kDecodeHeads, kDim / 4] of the row that began before the block's range; zeros between launches

  __device__ int heads() const { return kv_heads * slices; }
  // Most have one slice, and dividing takes long.
  __device__ int KvHead(int head) const { return slices == 1 ? head : head / slices; }
};

// A place in the order of steps.
template <typename Shape>
struct DecodeCursor {
  static constexpr int kStepTokens = Shape::kStepTokens;

  int entry, head;            // head: kv head * slices + slice
  int step, first_step, end;  // the row's steps are [first_step, end)
  int first, length;          // the row sees positions [first, length)
  int64_t place;              // of the step in the order of all work

  __device__ void Enter(const AttendParams& params, int new_entry) {
    entry = new_entry;
    length = params.context_length[entry];
    first = params.window > 0 ? max(0, length - params.window) : 0;
    first_step = step = first / kStepTokens;
    end = (length + kStepTokens - 1) / kStepTokens;
  }
  __device__ int steps() const { return max(end - first_step, 0); }
  // The row's work.
  __device__ int work() const { return steps() > 0 ? steps() + Shape::kRowSteps : 0; }
  // The places of the row's first and last step, and of the step behind this one.
  __device__ int64_t row_begin() const { return place - (step - first_step); }
  __device__ int64_t row_last() const { return place + (end - 1 - step); }
  __device__ int64_t next_place() const { return place + 1 + (step + 1 < end ? 0 : Shape::kRowSteps); }
  // Whether the step is the row's last, which holds its newest position.
  __device__ bool AtEnd() const { return step + 1 == end; }
  __device__ void SkipWithinRow(int steps) {
    step += steps;
    place += steps;
  }
  // There must be a next step.
  __device__ void Advance(const AttendParams& params, int heads) {
    place = next_place();
    if (++step < end) return;
    step = first_step;
    if (++head < heads) return;
    head = 0;
    do Enter(params, entry + 1);
    while (steps() == 0);
  }
  // To the next step if its place is before `stop`; else the place becomes `stop`.
  __device__ bool AdvanceBefore(int64_t stop, const AttendParams& params, int heads) {
    if (next_place() >= stop) {
      place = stop;
      return false;
    }
    Advance(params, heads);
    return true;
  }
};

// The steps of a block are those with places in [Begin(), End()), equal shares of all work.
struct DecodeRange {
  int64_t total;
  int share;

  __device__ static DecodeRange DealOut(int64_t total, int blocks) {
    return {total, max(static_cast<int>((total + blocks - 1) / blocks), 1)};
  }
  __device__ int64_t Begin(int block) const { return min(int64_t{block} * share, total); }
  __device__ int64_t End(int block) const { return Begin(block + 1); }
  __device__ int BlockOf(int64_t place) const { return static_cast<int>(place / share); }
};

// Sets `cursor` to this block's first step; its place is the end of the range if there is none. Every thread adds up a share of
// the entries.
template <typename Shape>
__device__ DecodeRange FindRange(const DecodeParams& params, DecodeCursor<Shape>& cursor) {
  __shared__ int warp_work[Shape::kWarps], begin_entry, work_before;
  const int heads = params.heads(), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int share = (params.entries + Shape::kThreads - 1) / Shape::kThreads;
  const int from = min(static_cast<int>(threadIdx.x) * share, params.entries), to = min(from + share, params.entries);
  int own = 0;
  for (int entry = from; entry < to; ++entry) {
    cursor.Enter(params.attend, entry);
    own += cursor.work();
  }
  int sum = own;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == 31) warp_work[warp] = sum;
  __syncthreads();
  int before = sum - own;
  int64_t total = 0;
  for (int w = 0; w < Shape::kWarps; ++w) {
    if (w < warp) before += warp_work[w];
    total += warp_work[w];
  }
  total *= heads;
  const DecodeRange range = DecodeRange::DealOut(total, gridDim.x);
  const int64_t begin = range.Begin(blockIdx.x), end = range.End(blockIdx.x);
  cursor.place = end;
  if (begin == end) return range;
  if (begin >= static_cast<int64_t>(before) * heads && begin < static_cast<int64_t>(before + own) * heads) {
    int entry = from;
    for (;; ++entry) {
      cursor.Enter(params.attend, entry);
      if (begin < static_cast<int64_t>(before + cursor.work()) * heads) break;
      before += cursor.work();
    }
    begin_entry = entry;
    work_before = before;
  }
  __syncthreads();
  cursor.Enter(params.attend, begin_entry);
  const int rest = static_cast<int>(begin - static_cast<int64_t>(work_before) * heads), steps = rest % cursor.work();
  cursor.head = rest / cursor.work();
  if (steps < cursor.steps()) {
    cursor.step += steps;
    cursor.place = begin;
    return range;
  }
  // The end of a row whose last step another block has.
  cursor.step = cursor.end - 1;
  cursor.place = begin - (steps - cursor.steps()) - 1;
  cursor.AdvanceBefore(end, params.attend, heads);
  return range;
}

}  // namespace berth::kernels::cuda
