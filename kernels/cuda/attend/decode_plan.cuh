#pragma once

#include <cstdint>

#include "kernels/cuda/attend/decode_parts.cuh"
#include "kernels/cuda/attend/params.h"
#include "kernels/cuda/util/launch.cuh"

// How decode attention is dealt out: see decode.cuh. A row is an entry's one token, or a tile of a chunk's tokens. Work is
// counted in steps of tokens; to end a row takes as long as kRowSteps.
namespace berth::kernels::cuda {

inline constexpr int kSliceTokens = 16;
// So many entries take fewer and smaller blocks: there is little to have under way, and the kernels before and behind get room
// beside them.
inline constexpr int kFewEntries = 4;

// A thread block. kWithChunks: entries may have any number of tokens.
template <int kHeadDim, bool kForFew, bool kWithChunks>
struct DecodeShape {
  static constexpr bool kFew = kForFew, kChunks = kWithChunks;
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
  static constexpr int kPlannedBlocks = 2 * kStages - 2;  // KV blocks of a range's first steps, see DecodeStart
  static constexpr int kOutStride = kDim + 4;             // floats between heads of a warp's part, free of bank conflicts
  static_assert(kStages >= 2 && kDecodeHeads * kOutStride * 4 <= 2 * kHalfBytes);
};

struct DecodeParams {
  AttendParams attend;
  int entries, kv_heads;
  int slices;         // of a group of query heads, each of up to kDecodeHeads; with chunks 1
  int tile_shift;     // with chunks: 1 << tile_shift tokens are a tile, all heads of a group beside one another
  void* starts;       // DecodeStart<Shape> [blocks]
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
  int first, length;          // the row sees positions [first, length), the first tokens of a tile fewer
  int64_t place;              // of the step in the order of all work
  // With chunks, of the entry: its tokens, the first one's row of the batch and position; then the tile's first token.
  int tokens, first_row, position, token;

  __device__ void Enter(const DecodeParams& params, int new_entry) {
    entry = new_entry;
    length = params.attend.context_length[entry];
    if constexpr (Shape::kChunks) {
      first_row = params.attend.query_start[entry];
      tokens = params.attend.query_start[entry + 1] - first_row;
      position = length - tokens;
      EnterTile(params, 0);
    } else {
      first = params.attend.window > 0 ? max(0, length - params.attend.window) : 0;
      first_step = step = first / kStepTokens;
      end = Steps(length);
    }
  }
  __device__ int steps() const { return max(end - first_step, 0); }
  // The row's work.
  __device__ int work() const { return steps() > 0 ? steps() + Shape::kRowSteps : 0; }
  // That of all rows of one head.
  __device__ int entry_work(const DecodeParams& params) const {
    if constexpr (!Shape::kChunks) return work();
    return position + tokens > 0 ? TilesWork(params, tiles(params)) : 0;
  }
  // To the row that has the entry's work `offset`; returns how much of the row's comes before that.
  __device__ int EnterWork(const DecodeParams& params, int offset) {
    if constexpr (Shape::kChunks) {
      int tile = 0;
      for (int behind = tiles(params); behind - tile > 1;) {
        const int middle = (tile + behind) / 2;
        if (TilesWork(params, middle) <= offset)
          tile = middle;
        else
          behind = middle;
      }
      EnterTile(params, tile << params.tile_shift);
      return offset - TilesWork(params, tile);
    }
    return offset;
  }
  // The row of the batch with the row's first token, and how many tokens it has.
  __device__ int query_row() const { return Shape::kChunks ? first_row + token : entry; }
  __device__ int query_tokens(const DecodeParams& params) const {
    return Shape::kChunks ? min(1 << params.tile_shift, tokens - token) : 1;
  }
  // The places of the row's first and last step, and of the step behind this one.
  __device__ int64_t row_begin() const { return place - (step - first_step); }
  __device__ int64_t row_last() const { return place + (end - 1 - step); }
  __device__ int64_t next_place() const { return place + 1 + (step + 1 < end ? 0 : Shape::kRowSteps); }
  __device__ bool AtEnd() const { return step + 1 == end; }
  // Whether the step holds positions that this batch writes.
  __device__ bool HasNew() const { return Shape::kChunks ? (step + 1) * kStepTokens > position : AtEnd(); }
  __device__ void SkipWithinRow(int steps) {
    step += steps;
    place += steps;
  }
  // There must be a next step.
  __device__ void Advance(const DecodeParams& params, int heads) {
    place = next_place();
    if (++step < end) return;
    if constexpr (Shape::kChunks) {
      const int next = token + (1 << params.tile_shift);
      EnterTile(params, next < tokens ? next : 0);
      if (token > 0) return;
    }
    step = first_step;
    if (++head < heads) return;
    head = 0;
    do Enter(params, entry + 1);
    while (steps() == 0);
  }
  // To the next step if its place is before `stop`; else the place becomes `stop`.
  __device__ bool AdvanceBefore(int64_t stop, const DecodeParams& params, int heads) {
    if (next_place() >= stop) {
      place = stop;
      return false;
    }
    Advance(params, heads);
    return true;
  }

 private:
  __device__ static int Steps(int positions) { return (positions + kStepTokens - 1) / kStepTokens; }
  __device__ int tiles(const DecodeParams& params) const {
    return (tokens + (1 << params.tile_shift) - 1) >> params.tile_shift;
  }
  __device__ void EnterTile(const DecodeParams& params, int first_token) {
    token = first_token;
    length = position + token + query_tokens(params);
    first = first_step = step = 0;
    end = Steps(length);
  }
  // Of the entry's first tiles, for one head. All but the last are whole, and whole tiles divide a step: their steps are the
  // floors of consecutive numbers divided by the tiles of a step.
  __device__ int TilesWork(const DecodeParams& params, int count) const {
    const int tiles_of_step = kStepTokens >> params.tile_shift;
    const auto floors = [&](int n) {  // of 0 to n
      const int whole = n / tiles_of_step;
      return tiles_of_step * (whole * (whole - 1) / 2) + whole * (n % tiles_of_step + 1);
    };
    const int from = (position + kStepTokens - 1) >> params.tile_shift;
    const int behind = position + (count << params.tile_shift), missing = Steps(behind) - Steps(min(behind, position + tokens));
    return floors(from + count) - floors(from) - missing + count * Shape::kRowSteps;
  }
};

// The KV block of a step.
template <typename Shape>
__device__ const int32_t* BlockOf(const AttendParams& params, const DecodeCursor<Shape>& at) {
  return params.block_table + at.entry * params.block_table_stride + at.step * Shape::kStepTokens / kKvBlockTokens;
}

// The columns of a row's products: the query heads of a group, or of a slice of it, of one token after the other.
template <typename Shape>
struct DecodeColumns {
  int row, tokens;        // of the batch, the first token's; how many there are
  int first_head, heads;  // of each token
  int count;

  __device__ DecodeColumns(const DecodeParams& params, const DecodeCursor<Shape>& at)
      : row(at.query_row()), tokens(at.query_tokens(params)) {
    const int kv_head = params.KvHead(at.head), first = (at.head - kv_head * params.slices) * kDecodeHeads;
    first_head = kv_head * params.attend.group + first;
    heads = min(kDecodeHeads, params.attend.group - first);
    count = tokens * heads;
  }
  __device__ int Token(int column) const { return Shape::kChunks ? column / heads : 0; }
  __device__ int Head(int column) const { return first_head + (Shape::kChunks ? column % heads : column); }
  __device__ int64_t Offset(int column, int64_t row_stride, int64_t head_stride) const {
    return (row + Token(column)) * row_stride + Head(column) * head_stride;
  }
  // The column's token sees positions before that.
  __device__ int Length(const DecodeCursor<Shape>& at, int column) const {
    return at.length - max(tokens - 1 - Token(column), 0);
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
    cursor.Enter(params, entry);
    own += cursor.entry_work(params);
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
      cursor.Enter(params, entry);
      if (begin < static_cast<int64_t>(before + cursor.entry_work(params)) * heads) break;
      before += cursor.entry_work(params);
    }
    begin_entry = entry;
    work_before = before;
  }
  __syncthreads();
  cursor.Enter(params, begin_entry);
  const int rest = static_cast<int>(begin - static_cast<int64_t>(work_before) * heads), work = cursor.entry_work(params);
  const int steps = cursor.EnterWork(params, rest % work);
  cursor.head = rest / work;
  if (steps < cursor.steps()) {
    cursor.step += steps;
    cursor.place = begin;
    return range;
  }
  // The end of a row whose last step another block has.
  cursor.step = cursor.end - 1;
  cursor.place = begin - (steps - cursor.steps()) - 1;
  cursor.AdvanceBefore(end, params, heads);
  return range;
}

inline constexpr size_t kMaxDecodeStartBytes = 128;  // of any DecodeStart

// What a block has to know to begin. It is the same in all layers that attend alike, and worked out once in a step.
template <typename Shape>
struct DecodeStart {
  DecodeRange range;
  DecodeCursor<Shape> cursor;  // the block's first step; its place is the end of the range if there is none
  int empty_entries;           // whether there are entries without a context
  int32_t block[Shape::kPlannedBlocks];
};

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads) PlanDecode(const __grid_constant__ DecodeParams params) {
  LetSuccessorStart();
  DecodeStart<Shape> start{};
  start.range = FindRange(params, start.cursor);
  int empty = 0;
  for (int entry = threadIdx.x; entry < params.entries; entry += Shape::kThreads) {
    empty |= params.attend.context_length[entry] <= 0;
  }
  start.empty_entries = __syncthreads_or(empty);
  if (threadIdx.x > 0) return WaitForInputs();
  const int64_t end = start.range.End(blockIdx.x);
  DecodeCursor<Shape> at = start.cursor;
#pragma unroll
  for (int32_t& block : start.block) {
    if (at.place >= end) break;
    block = *BlockOf(params.attend, at);
    at.AdvanceBefore(end, params, params.heads());
  }
  WaitForInputs();  // until then an earlier layer's blocks may begin by what is there
  static_cast<DecodeStart<Shape>*>(params.starts)[blockIdx.x] = start;
}

}  // namespace berth::kernels::cuda
