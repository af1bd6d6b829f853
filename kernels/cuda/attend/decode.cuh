#pragma once

#include "kernels/cuda/attend/decode_blocks.cuh"
#include "kernels/cuda/attend/decode_plan.cuh"
#include "kernels/cuda/attend/sm80.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

// Attention of decode rows, and of short chunks beside them. The keys and values that all entries see, in the order (entry, kv
// head, tile of a chunk's tokens, step of tokens), are cut into one contiguous range of equal work per thread block, on the
// device, from the context lengths, once for all layers that agree (PlanDecode). A warp takes 16 tokens of every step and goes
// through its own pipeline of copies; keys are the 16-row operand of the products and query heads the 8 columns, so that scores
// come out transposed and a group of up to 8 heads, or several tokens of a smaller group, costs what one costs. The warps'
// parts of a row, and then the blocks', are combined in order. Whatever is older than the step is on its way before the kernel
// that brings the step's queries and newest keys is done.
namespace berth::kernels::cuda {

// Queues this warp's copies of its tokens at `cursor`. `block` is the KV block of the step.
template <typename Shape>
__device__ void CopySlice(const DecodeParams& params, const DecodeCursor<Shape>& cursor, int block, uint32_t to) {
  constexpr int kDim = Shape::kDim, kChunks = kDim / 8;
  const int lane = threadIdx.x % 32, token = cursor.step * Shape::kStepTokens + threadIdx.x / 32 * kSliceTokens;
  if (token >= cursor.length || token + kSliceTokens <= cursor.first) return;
  const KvLayer& kv = params.attend.kv;
  const std::byte* keys =
      kv.base + block * kv.block_stride + params.KvHead(cursor.head) * kv.head_stride + token % kKvBlockTokens * (kDim * 2);
  const std::byte* const own = keys + lane * 16;
  constexpr int kValues = kKvBlockTokens * kDim * 2;  // from keys
  const auto copy = [&](auto whole) {
#pragma unroll
    for (int i = 0; i < kSliceTokens * kChunks / 32; ++i) {
      const int row = (i * 32 + lane) / kChunks;
      // Rows that the entry does not see may hold NaN: they become zeros.
      const bool seen = whole || (token + row >= cursor.first && token + row < cursor.length);
      const uint32_t place = to + LaneChunkOffset<kDim>(i, lane);
      CopyAsync(place, own + i * 32 * 16, seen);
      CopyAsync(place + Shape::kHalfBytes, own + kValues + i * 32 * 16, seen);
    }
  };
  if (token >= cursor.first && token + kSliceTokens <= cursor.length) {
    copy(std::true_type());
  } else {
    copy(std::false_type());
  }
}

// Of no token; finite, so that it can be subtracted from itself: the first tokens of a tile may see nothing of a slice.
inline constexpr float kNoScore = -1e30f;

// One warp's running softmax over its tokens, transposed: rows are tokens or dimensions, columns as in DecodeColumns.
template <typename T, typename Shape>
struct DecodeState {
  static constexpr int kDim = Shape::kDim;
  uint32_t query[kDim / 16][2];  // B operand
  float slope[2];                // of columns 2t, 2t + 1
  int length[2];                 // of columns 2t, 2t + 1: they see positions before that; 0 of columns without a head
  float out[kDim / 16][4];       // C: dimensions x columns
  float highest[2], sum[2];      // of columns 2t, 2t + 1: what weights are relative to, their sum over this lane's tokens

  __device__ void LoadQuery(const DecodeParams& params, const DecodeCursor<Shape>& row) {
    const int lane = threadIdx.x % 32;
    const DecodeColumns<Shape> columns(params, row);
    const int64_t at = columns.Offset(lane / 4, params.attend.q_stride, params.attend.q_head_stride);
    const T* q = static_cast<const T*>(params.attend.q) + at + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i) {
      for (int half = 0; half < 2; ++half) {
        query[i][half] = lane / 4 < columns.count ? *reinterpret_cast<const uint32_t*>(q + i * 16 + half * 8) : 0;
      }
    }
    for (int i = 0; i < 2; ++i) {
      const int column = lane % 4 * 2 + i;
      slope[i] =
          params.attend.alibi_slope != nullptr && column < columns.count ? params.attend.alibi_slope[columns.Head(column)] : 0;
      length[i] = column < columns.count ? columns.Length(row, column) : 0;
    }
  }

  __device__ void Clear() {
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i) {
      for (float& x : out[i]) x = 0;
    }
    for (int i = 0; i < 2; ++i) {
      // Where there is no head nothing reaches the base: weights are zeros, whose products take the least power.
      highest[i] = length[i] > 0 ? kNoScore : -kNoScore;
      sum[i] = 0;
    }
  }

  // Adds the tokens from `token` on, whose keys and values lie at `slice`.
  __device__ void Add(const AttendParams& params, const DecodeCursor<Shape>& cursor, int token, uint32_t slice) {
    const int lane = threadIdx.x % 32;
    float score[2][4] = {};
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i) {
      uint32_t keys[4];
      LoadMatrices(keys, slice + PairChunkOffset<kDim>(lane % 16, i, lane / 16));
      Mma<T>(score[i % 2], keys, query[i][0], query[i][1]);
    }
    float p[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) p[i] = (score[0][i] + score[1][i]) * (params.scale * kLog2E);
    const bool all_seen =
        token >= cursor.first && token + kSliceTokens <= cursor.length - (Shape::kChunks ? kDecodeHeads - 1 : 0);
    if (!all_seen || params.softcap > 0 || params.alibi_slope != nullptr) Modify(params, cursor, token, p);
    const float above = fmaxf(fmaxf(p[0], p[2]) - highest[0], fmaxf(p[1], p[3]) - highest[1]);
    if (__any_sync(~0u, above > kBaseLag)) RaiseBase(p);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      p[i] = Exp2(p[i] - highest[i % 2]);
      sum[i % 2] += p[i];
    }
    const uint32_t weight0 = TransposeMatrix(Pack<T>(p[0], p[1])), weight1 = TransposeMatrix(Pack<T>(p[2], p[3]));
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i) {
      uint32_t values[4];
      LoadMatricesTransposed(values,
                             slice + Shape::kHalfBytes + PairChunkOffset<kDim>(lane % 8 + lane / 16 * 8, i, lane / 8 % 2));
      Mma<T>(out[i], values, weight0, weight1);
    }
  }

  // Soft cap, ALiBi, and what a column does not see.
  __device__ void Modify(const AttendParams& params, const DecodeCursor<Shape>& cursor, int token, float (&p)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int behind = Shape::kChunks ? length[i % 2] : cursor.length;
      const int position = token + threadIdx.x % 32 / 4 + i / 2 * 8;
      if (params.softcap > 0) p[i] = params.softcap * kLog2E * Tanh(__fdividef(p[i], params.softcap * kLog2E));
      p[i] += slope[i % 2] * static_cast<float>(position - (behind - 1)) * kLog2E;
      if (position < cursor.first || position >= behind) p[i] = -INFINITY;
    }
  }

  // Of the columns whose scores exceed theirs by more than they may.
  __device__ void RaiseBase(const float (&p)[4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float slice_highest = fmaxf(p[i], p[i + 2]);
      for (int offset = 4; offset < 32; offset *= 2) {
        slice_highest = fmaxf(slice_highest, __shfl_xor_sync(~0u, slice_highest, offset));
      }
      const float base = slice_highest - highest[i] > kBaseLag ? slice_highest : highest[i];
      const float rescale = Exp2(highest[i] - base);
      highest[i] = base;
      sum[i] *= rescale;
#pragma unroll
      for (int d = 0; d < kDim / 16; ++d) {
        out[d][i] *= rescale;
        out[d][i + 2] *= rescale;
      }
    }
  }
};

template <typename T>
__device__ void StoreFour(T* to, float4 x, float factor) {
  *reinterpret_cast<uint2*>(to) = make_uint2(Pack<T>(x.x * factor, x.y * factor), Pack<T>(x.z * factor, x.w * factor));
}

// The end of a row, or of this block's range: the warps' parts become the output, or this block's part of it.
template <typename T, typename Shape>
__device__ void FinishRow(const DecodeParams& params, const DecodeRange& range, const DecodeCursor<Shape>& cursor,
                          DecodeState<T, Shape>& state, float* stage) {
  constexpr int kDim = Shape::kDim;
  __shared__ float highest[Shape::kWarps][kDecodeHeads], sums[Shape::kWarps][kDecodeHeads];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  constexpr int kWarpFloats = 2 * Shape::kHalfBytes / 4;
#pragma unroll
  for (int i = 0; i < kDim / 16; ++i) {
    for (int j = 0; j < 4; ++j) {
      stage[warp * kWarpFloats + (lane % 4 * 2 + j % 2) * Shape::kOutStride + i * 16 + lane / 4 + j / 2 * 8] = state.out[i][j];
    }
  }
  for (int i = 0; i < 2; ++i) {
    for (int offset = 4; offset < 32; offset *= 2) state.sum[i] += __shfl_xor_sync(~0u, state.sum[i], offset);
    if (lane < 4) {
      highest[warp][lane * 2 + i] = state.highest[i];
      sums[warp][lane * 2 + i] = state.sum[i];
    }
  }
  __syncthreads();
  const int from = range.BlockOf(cursor.row_begin()), to = range.BlockOf(cursor.row_last()), block = blockIdx.x;
  const DecodeColumns<Shape> columns(params, cursor);
  T* out = static_cast<T*>(params.attend.out);
  constexpr int kHeadItems = kDim / 4, kStride = kDecodeHeads * kHeadItems;
  for (int item = threadIdx.x; item < columns.count * kHeadItems; item += Shape::kThreads) {
    const int column = item / kHeadItems, d = item % kHeadItems * 4;
    DecodeSum total{.highest = -INFINITY, .sum = 0, .value = {}};
    for (int w = 0; w < Shape::kWarps; ++w) total.highest = fmaxf(total.highest, highest[w][column]);
    for (int w = 0; w < Shape::kWarps; ++w) {
      total.Add(*reinterpret_cast<const float4*>(stage + w * kWarpFloats + column * Shape::kOutStride + d), highest[w][column],
                sums[w][column]);
    }
    if (block == from) {
      AddParts<kStride>(params.parts + (from + 1) * kStride + item, to - from, total);
      StoreFour(out + columns.Offset(column, params.attend.out_stride, params.attend.out_head_stride) + d, total.value,
                1 / total.sum);
    } else {
      PutPart(params.parts + block * kStride + item, total);
    }
  }
  __syncthreads();
}

// Entries without a context, such as those that pad a batch, get zeros.
template <typename T, typename Shape>
__device__ void ZeroEmptyRows(const DecodeParams& params) {
  constexpr int kDim = Shape::kDim;
  const int heads = params.kv_heads * params.attend.group;
  for (int entry = blockIdx.x; entry < params.entries; entry += gridDim.x) {
    if (params.attend.context_length[entry] > 0) continue;
    const int row = Shape::kChunks ? params.attend.query_start[entry] : entry;
    T* out = static_cast<T*>(params.attend.out) + row * params.attend.out_stride;
    for (int item = threadIdx.x; item < heads * (kDim / 4); item += Shape::kThreads) {
      StoreFour(out + item / (kDim / 4) * params.attend.out_head_stride + item % (kDim / 4) * 4, float4{}, 0);
    }
  }
}

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 2) DecodeAttention(const __grid_constant__ DecodeParams params) {
  extern __shared__ __align__(128) std::byte shared[];
  if (Shape::kFew) LetSuccessorStart();
  // Lengths, tables, what is planned with them, and all positions but the newest are older than this step's layers.
  const auto& start = static_cast<const DecodeStart<Shape>*>(params.starts)[blockIdx.x];
  const DecodeRange range = start.range;
  DecodeCursor<Shape> cursor = start.cursor;
  const int64_t end = range.End(blockIdx.x);
  const bool works = cursor.place < end, has_empty_entries = start.empty_entries != 0;
  const int heads = params.heads(), warp = threadIdx.x / 32;

  const uint32_t own_slices = SharedAddress(shared) + warp * 2 * Shape::kHalfBytes;
  DecodeCursor<Shape> ahead = cursor;
  int next_stage = 0;
  StepBlocks<Shape> blocks(params, start);
  // Queues the copies of the next step.
  const auto copy_next = [&] {
    if (ahead.place >= end) return;
    CopySlice(params, ahead, blocks.Next(), own_slices + next_stage * Shape::kStageBytes);
    next_stage = next_stage + 1 == Shape::kStages ? 0 : next_stage + 1;
    if (ahead.AdvanceBefore(end, params, heads)) blocks.Follow(ahead);
  };
#pragma unroll 1
  for (int queued = 0; queued < Shape::kStages - 1; ++queued) {
    if (ahead.place < end && ahead.HasNew()) WaitForInputs();
    copy_next();
    if (queued == Shape::kStages - 2) blocks.Queue();
    CommitCopies();
  }
  WaitForInputs();
  if (!Shape::kFew) LetSuccessorStart();  // see AttendEntries::inputs_ready
  if (has_empty_entries) ZeroEmptyRows<T, Shape>(params);
  if (!works) return;

  DecodeState<T, Shape> state;
  state.LoadQuery(params, cursor);
  state.Clear();
  int stage = 0;
  for (;;) {
    copy_next();
    CommitCopies();
    WaitForCopies<Shape::kStages - 1>();
    __syncwarp();
    const int token = cursor.step * Shape::kStepTokens + warp * kSliceTokens;
    if (token < cursor.length && token + kSliceTokens > cursor.first) {
      state.Add(params.attend, cursor, token, own_slices + stage * Shape::kStageBytes);
    }
    __syncwarp();
    const bool last = cursor.next_place() >= end;
    if (last || cursor.AtEnd()) {
      const DecodeCursor<Shape> done = cursor;
      if (!last) {
        // On its way while the row is finished.
        cursor.Advance(params, heads);
        state.LoadQuery(params, cursor);
      }
      FinishRow(params, range, done, state, reinterpret_cast<float*>(shared + stage * Shape::kStageBytes));
      if (last) return;
      state.Clear();
    } else {
      cursor.SkipWithinRow(1);
    }
    stage = stage + 1 == Shape::kStages ? 0 : stage + 1;
  }
}

template <typename T>
void AttendDecode(Context& context, const AttendParams& params, uint64_t batch_number, int entries, bool chunks) {
  DecodeParams decode{
      .attend = params,
      .entries = entries,
      .kv_heads = params.kv.kv_heads,
      .slices = (params.group + kDecodeHeads - 1) / kDecodeHeads,
      .tile_shift = DecodeTileShift(params.group),
      .parts = static_cast<DecodePart*>(context.attend.parts.data()),
  };
  const auto launch_shape = [&](auto shape) {
    using Shape = decltype(shape);
    static_assert(sizeof(DecodeStart<Shape>) <= kMaxDecodeStartBytes);
    const int blocks = context.multiprocessors * Shape::kBlocksPerMultiprocessor;
    const auto [starts, planned] = context.attend.FindPlan({.batch = batch_number,
                                                            .kernel = reinterpret_cast<const void*>(PlanDecode<Shape>),
                                                            .entries = entries,
                                                            .kv_heads = decode.kv_heads,
                                                            .group = params.group,
                                                            .window = params.window});
    decode.starts = starts;
    if (!planned) {
      Launch(context, PlanDecode<Shape>, blocks, Shape::kThreads, 0, decode);
      context.serial = true;  // attention reads the plan ahead of its wait
    }
    Launch(context, DecodeAttention<T, Shape>, blocks, Shape::kThreads, Shape::kSharedBytes, decode);
  };
  const auto launch = [&](auto dim) {
    constexpr int kDim = dim;
    if (chunks) return launch_shape(DecodeShape<kDim, false, true>());
    if constexpr (kDim <= 128) {
      if (entries <= kFewEntries) return launch_shape(DecodeShape<kDim, true, false>());
    }
    launch_shape(DecodeShape<kDim, false, false>());
  };
  WithTensorCoreHead(params.kv.key_dim, launch);
}

}  // namespace berth::kernels::cuda
