#pragma once

#include "kernels/cuda/attend/decode_plan.cuh"
#include "kernels/cuda/attend/latent_rows.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

// Attention over latents, where all query heads share one key row of 576 and its first 512 dimensions are the value. A thread
// block takes 64 rows, of which one is a query head of a token, and walks over key tiles of 32 tokens that lie once in shared
// memory; the copies of a tile run while the one before is multiplied. Prompt chunks are cut into blocks as in prefill.cuh,
// decode rows as in decode.cuh, but the parts of a row are combined by a kernel of their own.
namespace berth::kernels::cuda {

// Grid: an upper bound of the tiles.
template <typename T>
__global__ void __launch_bounds__(LatentShape::kThreads, 1)
    LatentPrefill(const __grid_constant__ AttendParams params, const __grid_constant__ AttendEntries entries) {
  using Shape = LatentShape;
  extern __shared__ __align__(128) std::byte shared[];
  LetSuccessorStart();
  WaitForInputs();
  PrefillTile tile;
  int tile_count;
  if (!FindTile(params, entries, Shape::kRows, blockIdx.x, tile, tile_count)) return;
  const int end = (tile.position + (tile.first_row + tile.rows - 1) / params.group) / Shape::kStepTokens + 1;
  const uint32_t queries = SharedAddress(shared), tiles = queries + Shape::kQueryBytes;
  CopyLatentQueries<T>(params, tile, queries);
  CopyLatents(params, tile.entry, 0, tile.length, tiles);
  CommitCopies();
  LatentState<T> state;
  state.Start(params, tile);
  for (int step = 0; step < end; ++step) {
    WaitForCopies<0>();
    __syncthreads();
    if (step + 1 < end) {
      CopyLatents(params, tile.entry, step + 1, tile.length, tiles + (step + 1) % 2 * Shape::kTileBytes);
      CommitCopies();
    }
    state.Add(params.scale * kLog2E, step * Shape::kStepTokens, queries, tiles + step % 2 * Shape::kTileBytes,
              shared + Shape::kQueryBytes + 2 * Shape::kTileBytes);
  }
  state.SumRows();
  state.Store(params, tile);
}

// The rows of a cursor's slice of heads.
__device__ inline PrefillTile DecodeTile(const AttendParams& params, const DecodeCursor<LatentShape>& cursor) {
  const int first = cursor.head * LatentShape::kRows;
  return {.entry = cursor.entry,
          .first_row = first,
          .rows = min(LatentShape::kRows, params.group - first),
          .first_token = cursor.entry,
          .position = cursor.length - 1,
          .length = cursor.length};
}

template <typename T>
__global__ void __launch_bounds__(LatentShape::kThreads, 1)
    LatentDecode(const __grid_constant__ DecodeParams params, LatentPart* parts) {
  using Shape = LatentShape;
  extern __shared__ __align__(128) std::byte shared[];
  LetSuccessorStart();
  WaitForInputs();
  DecodeCursor<Shape> cursor;
  const DecodeRange range = FindRange(params, cursor);
  const int64_t begin = range.Begin(blockIdx.x), end = range.End(blockIdx.x);
  if (begin == end) return;
  const uint32_t queries = SharedAddress(shared), tiles = queries + Shape::kQueryBytes;
  const float scale_log2 = params.attend.scale * kLog2E;
  PrefillTile tile = DecodeTile(params.attend, cursor);
  CopyLatentQueries<T>(params.attend, tile, queries);
  CopyLatents(params.attend, cursor.entry, cursor.step, cursor.length, tiles);
  CommitCopies();
  LatentState<T> state;
  state.Start(params.attend, tile);
  for (int64_t step = begin; step < end; ++step) {
    WaitForCopies<0>();
    __syncthreads();
    const bool last = step + 1 == end;
    DecodeCursor<Shape> next = cursor;
    if (!last) {
      next.Advance(params, params.heads());
      CopyLatents(params.attend, next.entry, next.step, next.length, tiles + (step + 1 - begin) % 2 * Shape::kTileBytes);
      CommitCopies();
    }
    state.Add(scale_log2, cursor.step * Shape::kStepTokens, queries, tiles + (step - begin) % 2 * Shape::kTileBytes,
              shared + Shape::kQueryBytes + 2 * Shape::kTileBytes);
    if (last || cursor.AtEnd()) {
      state.SumRows();
      const int64_t row_begin = step - (cursor.step - cursor.first_step), row_end = row_begin + cursor.steps();
      if (row_begin >= begin && row_end <= end) {
        state.Store(params.attend, tile);
      } else {
        const int slot = row_begin >= begin ? 1 : 0;
        state.StorePart(scale_log2, tile, parts[blockIdx.x * kLatentPartsPerBlock + slot]);
      }
      if (!last) {
        tile = DecodeTile(params.attend, next);
        CopyLatentQueries<T>(params.attend, tile, queries);
        CommitCopies();
        state.Start(params.attend, tile);
      }
    }
    cursor = next;
  }
}

// Rows that a block of the next kernel combines, two threads' width each.
inline constexpr int kCombineRows = 2;
inline constexpr int kCombineThreads = kCombineRows * LatentShape::kValueDim / 4;

// Adds up the parts of rows that several of LatentDecode's `blocks` shared, in order; entries without a context get zeros.
// Grid: (entries * slices, rows).
template <typename T>
__global__ void __launch_bounds__(kCombineThreads)
    CombineLatents(const __grid_constant__ DecodeParams params, const LatentPart* parts, int blocks) {
  using Shape = LatentShape;
  __shared__ int before, all;
  LetSuccessorStart();
  WaitForInputs();
  const int entry = blockIdx.x / params.slices, slice = blockIdx.x % params.slices;
  const int row = blockIdx.y * kCombineRows + threadIdx.x / (Shape::kValueDim / 4);
  const int head = slice * Shape::kRows + row, d = threadIdx.x % (Shape::kValueDim / 4) * 4;
  DecodeCursor<Shape> cursor;
  if (threadIdx.x == 0) before = all = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < params.entries; i += kCombineThreads) {
    cursor.Enter(params, i);
    atomicAdd(&all, cursor.steps());
    if (i < entry) atomicAdd(&before, cursor.steps());
  }
  __syncthreads();
  if (head >= params.attend.group) return;
  cursor.Enter(params, entry);
  const DecodeRange range = DecodeRange::DealOut(int64_t{all} * params.slices, blocks);
  const int64_t begin = int64_t{before} * params.slices + int64_t{slice} * cursor.steps(), end = begin + cursor.steps();
  T* to = static_cast<T*>(params.attend.out) + entry * params.attend.out_stride + head * params.attend.out_head_stride + d;
  float4 value{};
  float factor = 0;
  if (cursor.steps() > 0) {
    const int from = range.BlockOf(begin), last = range.BlockOf(end - 1);
    if (from == last) return;
    const auto part = [&](int block) -> const LatentPart& { return parts[block * kLatentPartsPerBlock + (block == from)]; };
    float highest = -INFINITY;
    for (int block = from + threadIdx.x % 32; block <= last; block += 32) highest = fmaxf(highest, part(block).highest[row]);
    for (int offset = 16; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
    DecodeSum total{.highest = highest, .sum = 0, .value = {}};
#pragma unroll 8
    for (int block = from; block <= last; ++block) {
      const LatentPart& own = part(block);
      total.Add(*reinterpret_cast<const float4*>(own.value[row] + d), own.highest[row], own.sum[row]);
    }
    value = total.value;
    factor = 1 / total.sum;
  }
  *reinterpret_cast<uint2*>(to) =
      make_uint2(Pack<T>(value.x * factor, value.y * factor), Pack<T>(value.z * factor, value.w * factor));
}

}  // namespace berth::kernels::cuda
