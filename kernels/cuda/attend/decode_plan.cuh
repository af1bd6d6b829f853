#pragma once

#include <cstdint>

#include "kernels/cuda/attend/params.h"

// How decode attention is dealt out: see decode.cuh.
namespace berth::kernels::cuda {

// Shared memory of a block, so that two fit on an sm_80 or later with 192 KiB and one on any.
inline constexpr int kDecodeSharedBytes = 96 << 10;
inline constexpr int kSliceTokens = 16;
// Parts of a row that the combining thread reads at a time, so that their latencies overlap.
inline constexpr int kPartsAtOnce = 8;

template <int kDim>
struct DecodeShape {
  static constexpr int kWarps = kDim <= 128 ? 4 : 2;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kStepTokens = kWarps * kSliceTokens;
  static constexpr int kHalfBytes = kSliceTokens * kDim * 2;  // a warp's keys of a step, or its values
  static constexpr int kStageBytes = kWarps * 2 * kHalfBytes;
  static constexpr int kStages = kDecodeSharedBytes / kStageBytes;
  static constexpr int kOutStride = kDim + 4;  // floats between heads of a warp's part, free of bank conflicts
  static_assert(kStages >= 3 && kDecodeHeads * kOutStride * 4 <= 2 * kHalfBytes);
};

struct DecodeParams {
  AttendParams attend;
  int entries, kv_heads;
  int slices;       // of a group of query heads, each of up to kDecodeHeads
  float* partial;   // [blocks, 2, kDecodeHeads, kDim]: [b, 0] of a row that began before block b's range, [b, 1] of one that
                    // ends behind
  float2* state;    // [blocks, 2, kDecodeHeads]: highest score (base 2), sum
  int32_t* ticket;  // [blocks] parts that arrived of the row that begins in block b's range; 0 between launches
};

// A place in the order of steps.
template <int kDim>
struct DecodeCursor {
  static constexpr int kStepTokens = DecodeShape<kDim>::kStepTokens;

  int entry, head;            // head: kv head * slices + slice
  int step, first_step, end;  // the row's steps are [first_step, end)
  int first, length;          // the row sees positions [first, length)

  __device__ void Enter(const AttendParams& params, int new_entry) {
    entry = new_entry;
    length = params.context_length[entry];
    first = params.window > 0 ? max(0, length - params.window) : 0;
    first_step = step = first / kStepTokens;
    end = (length + kStepTokens - 1) / kStepTokens;
  }
  __device__ int steps() const { return max(end - first_step, 0); }
  // There must be a next step.
  __device__ void Advance(const AttendParams& params, int heads) {
    if (++step < end) return;
    step = first_step;
    if (++head < heads) return;
    head = 0;
    do Enter(params, entry + 1);
    while (steps() == 0);
  }
};

// What a block does: steps [begin, end) of `total`, dealt out to `blocks`.
struct DecodeRange {
  int64_t total;
  int blocks;
  __device__ int64_t Begin(int block) const { return block * total / blocks; }
  __device__ int BlockOf(int64_t step) const { return static_cast<int>(((step + 1) * blocks - 1) / total); }
};

// Sets `cursor` to this block's first step. Every thread adds up a share of the entries.
template <int kDim>
__device__ DecodeRange FindRange(const DecodeParams& params, DecodeCursor<kDim>& cursor) {
  using Shape = DecodeShape<kDim>;
  __shared__ int warp_steps[Shape::kWarps], begin_entry, steps_before;
  const int heads = params.kv_heads * params.slices, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int share = (params.entries + Shape::kThreads - 1) / Shape::kThreads;
  const int from = min(static_cast<int>(threadIdx.x) * share, params.entries), to = min(from + share, params.entries);
  int own = 0;
  for (int entry = from; entry < to; ++entry) {
    cursor.Enter(params.attend, entry);
    own += cursor.steps();
  }
  int sum = own;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == 31) warp_steps[warp] = sum;
  __syncthreads();
  int before = sum - own;
  int64_t total = 0;
  for (int w = 0; w < Shape::kWarps; ++w) {
    if (w < warp) before += warp_steps[w];
    total += warp_steps[w];
  }
  total *= heads;
  const DecodeRange range{total, static_cast<int>(min(total, static_cast<int64_t>(gridDim.x)))};
  if (static_cast<int>(blockIdx.x) >= range.blocks) return range;
  const int64_t begin = range.Begin(blockIdx.x);
  if (begin >= static_cast<int64_t>(before) * heads && begin < static_cast<int64_t>(before + own) * heads) {
    int entry = from;
    for (;; ++entry) {
      cursor.Enter(params.attend, entry);
      if (begin < static_cast<int64_t>(before + cursor.steps()) * heads) break;
      before += cursor.steps();
    }
    begin_entry = entry;
    steps_before = before;
  }
  __syncthreads();
  cursor.Enter(params.attend, begin_entry);
  const int rest = static_cast<int>(begin - static_cast<int64_t>(steps_before) * heads);
  cursor.head = rest / cursor.steps();
  cursor.step += rest % cursor.steps();
  return range;
}

}  // namespace berth::kernels::cuda
