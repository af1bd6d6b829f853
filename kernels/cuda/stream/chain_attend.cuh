#pragma once

#include <cstdint>

#include "kernels/cuda/attend/decode_parts.cuh"
#include "kernels/cuda/attend/mma.cuh"
#include "kernels/cuda/stream/chain_params.cuh"
#include "kernels/cuda/util/mma.cuh"
#include "kernels/cuda/util/numeric.cuh"

// Attention of a chain's few rows, by the consumer warps of all its thread blocks, while the weights of the products behind it
// come in. The blocks are dealt out to the rows (entry, kv head): each gets one, the others go by length. A block has a run of
// its row's slices of 16 tokens, a warp every eighth of them. All comes straight to registers: of a slice, keys are the 16-row
// operand of the products and query heads the 8 columns. Parts are combined in order, the warps' by each block, the blocks' by
// the row's first one.
namespace berth::kernels::cuda::stream {

#if __CUDA_ARCH__ >= 900

// What a block does of one row.
struct RowPart {
  int entry, head;    // head: of the keys
  int index, count;   // which of how many parts of the row
  int slice, end;     // its slices
  int first, length;  // the row sees positions [first, length)
};

__device__ inline RowPart FindPart(const AttendParams& params, int entries) {
  const int heads = params.kv.kv_heads;
  const auto seen = [&](int entry) {
    const int length = params.context_length[entry];
    return int2{params.window > 0 ? max(0, length - params.window) : 0, length};
  };
  const auto slices = [](int2 span) { return (span.y + kAttendTokens - 1) / kAttendTokens - span.x / kAttendTokens; };
  int total = 0;
  for (int entry = 0; entry < entries; ++entry) total += slices(seen(entry));
  const uint32_t spare = gridDim.x - entries * heads;
  int block = blockIdx.x;
  for (int entry = 0; entry < entries; ++entry) {
    const int2 span = seen(entry);
    const uint32_t own = slices(span);
    const int parts = total == 0 ? 1 : 1 + static_cast<int>(spare * own / static_cast<uint32_t>(total * heads));
    if (block < parts * heads) {
      RowPart part{.entry = entry, .head = block / parts, .count = parts, .first = span.x, .length = span.y};
      part.index = block - part.head * parts;
      part.slice = span.x / kAttendTokens + static_cast<int>(part.index * own / parts);
      part.end = span.x / kAttendTokens + static_cast<int>((part.index + 1) * own / parts);
      return part;
    }
    block -= parts * heads;
  }
  return {};
}

// A warp's running softmax over its slices. With g = lane / 4 and t = lane % 4, the order of a head's dimensions is what lets a
// thread read 16 bytes at a time: of keys pieces t + 4 j of tokens g and g + 8, of values pieces g and g + 8 of tokens 2t, 2t +
// 1, 2t + 8, 2t + 9.
template <typename T>
class SliceWalk {
 public:
  __device__ SliceWalk(const AttendParams& params, const RowPart& part, int thread)
      : params_(params), part_(part), thread_(thread) {}

  // Where the keys of the slice are.
  __device__ const std::byte* Place(int slice) const {
    const int token = slice * kAttendTokens;
    const int block = params_.block_table[part_.entry * params_.block_table_stride + token / kKvBlockTokens];
    return params_.kv.base + block * params_.kv.block_stride + part_.head * params_.kv.head_stride +
           token % kKvBlockTokens * (kAttendDim * 2);
  }

  // Brings keys and values to L2.
  __device__ void Prefetch(const std::byte* place) const {
    const std::byte* from = place + thread_ % 32 * 128;
    constexpr int kBytes = kAttendTokens * kAttendDim * 2, kBetween = kKvBlockTokens * kAttendDim * 2;
    static_assert(kBytes == 32 * 128);
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from + kBetween));
  }

  using Keys = uint4[2][4];
  using Values = uint32_t[4][4];

  __device__ void LoadKeys(const std::byte* place, Keys& keys) const {
    const std::byte* from = place + (Group() * kAttendDim * 2 + Column() * 16);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) keys[i][j] = __ldcg(reinterpret_cast<const uint4*>(from + i * 8 * kAttendDim * 2 + j * 64));
    }
  }

  // Of one half of the dimensions. Rows that are not seen may hold NaN: they become zeros.
  __device__ void LoadValues(const std::byte* place, int slice, int half, Values& values) const {
    const std::byte* from = place + (kKvBlockTokens + Column() * 2) * kAttendDim * 2 + Group() * 16 + half * kAttendDim;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = i % 2 + i / 2 * 8, token = slice * kAttendTokens + Column() * 2 + row;
      const bool seen = token >= part_.first && token < part_.length;
      const uint4 piece = seen ? __ldcg(reinterpret_cast<const uint4*>(from + row * kAttendDim * 2)) : uint4{};
      values[i][0] = piece.x, values[i][1] = piece.y, values[i][2] = piece.z, values[i][3] = piece.w;
    }
  }

  __device__ const T* Query() const {
    return static_cast<const T*>(params_.q) + part_.entry * params_.q_stride +
           (part_.head * params_.group + Group()) * params_.q_head_stride + Column() * 8;
  }
  __device__ void LoadQuery(const T* query) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      query_[j] = Group() < params_.group ? __ldcg(reinterpret_cast<const uint4*>(query + j * 32)) : uint4{};
    }
  }

  __device__ void Add(int slice, const std::byte* place) {
    Keys keys;
    Values values[2];
    LoadKeys(place, keys);
    LoadValues(place, slice, 0, values[0]);
    float score[2][4] = {}, p[4], rescale[2];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      Mma<T>(score[0], keys[0][j].x, keys[1][j].x, keys[0][j].y, keys[1][j].y, query_[j].x, query_[j].y);
      Mma<T>(score[1], keys[0][j].z, keys[1][j].z, keys[0][j].w, keys[1][j].w, query_[j].z, query_[j].w);
    }
    LoadValues(place, slice, 1, values[1]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = slice * kAttendTokens + Group() + i / 2 * 8;
      float x = (score[0][i] + score[1][i]) * params_.scale;
      if (params_.softcap > 0) x = params_.softcap * Tanh(__fdividef(x, params_.softcap));
      x = (x + Slope(Column() * 2 + i % 2) * static_cast<float>(position - (part_.length - 1))) * kLog2E;
      p[i] = position >= part_.first && position < part_.length ? x : -INFINITY;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float highest = fmaxf(p[i], p[i + 2]);
      for (int offset = 4; offset < 32; offset *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
      highest = fmaxf(highest_[i], highest);
      rescale[i] = Exp2(highest_[i] - highest);
      highest_[i] = highest;
      p[i] = Exp2(p[i] - highest);
      p[i + 2] = Exp2(p[i + 2] - highest);
      sum_[i] = sum_[i] * rescale[i] + (p[i] + p[i + 2]);
    }
    const uint32_t weight0 = TransposeMatrix(Pack<T>(p[0], p[1])), weight1 = TransposeMatrix(Pack<T>(p[2], p[3]));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const auto pair = [&](int token, int of) {
        return __byte_perm(values[i / 4][token][of], values[i / 4][token + 1][of], i % 2 == 0 ? 0x5410 : 0x7632);
      };
      const int low = i % 4 / 2, high = low + 2;
      for (int j = 0; j < 4; ++j) out_[i][j] *= rescale[j % 2];
      Mma<T>(out_[i], pair(0, low), pair(0, high), pair(2, low), pair(2, high), weight0, weight1);
    }
  }

  // Puts what the warp found of heads [from, from + 4) where all can read it: values [warp][head][dim], and of every warp and
  // head the highest score and the sum of weights, [head][warp].
  __device__ void Put(int from, float* values, float* highest, float* sums) {
    const int warp = thread_ / 32;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum = sum_[i];
      for (int offset = 4; offset < 32; offset *= 2) sum += __shfl_xor_sync(~0u, sum, offset);
      const int head = Column() * 2 + i - from;
      if (head < 0 || head >= kAttendHeads) continue;
      if (Group() == 0) {
        highest[head * kConsumerWarps + warp] = highest_[i];
        sums[head * kConsumerWarps + warp] = sum;
      }
      auto* to = reinterpret_cast<float4*>(values + (warp * kAttendHeads + head) * kAttendDim + Group() * 8);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        to[j * 16] = {out_[4 * j][i], out_[4 * j + 1][i], out_[4 * j + 2][i], out_[4 * j + 3][i]};
        to[j * 16 + 1] = {out_[4 * j][2 + i], out_[4 * j + 1][2 + i], out_[4 * j + 2][2 + i], out_[4 * j + 3][2 + i]};
      }
    }
  }

 private:
  __device__ int Group() const { return thread_ % 32 / 4; }
  __device__ int Column() const { return thread_ % 4; }

  __device__ float Slope(int head) const {
    return params_.alibi_slope == nullptr || head >= params_.group ? 0 : params_.alibi_slope[part_.head * params_.group + head];
  }

  const AttendParams& params_;
  const RowPart& part_;
  const int thread_;
  uint4 query_[4];
  float out_[8][4] = {};
  float highest_[2] = {-INFINITY, -INFINITY}, sum_[2] = {};
};

// The sum of `count` parts that lie kStride apart, in all `lanes` neighbouring threads of which this is number `lane`. All of
// a warp call together.
template <int kStride>
__device__ DecodeSum CombineParts(DecodePart* parts, int count, int lanes, int lane) {
  DecodeSum total{.highest = -INFINITY, .sum = 0, .value = {}};
#pragma unroll 1
  for (int i = lane; i < count; i += lanes) {
    PartWords words{};
    while (!words.Complete()) words.Read(parts + i * kStride);
    parts[i * kStride] = {};
    if (words.sum() == 0) continue;
    total.Rescale(fmaxf(total.highest, words.highest()));
    total.Add(words.four(), words.highest(), words.sum());
  }
#pragma unroll 1
  for (int offset = 1; offset < lanes; offset *= 2) {
    const auto other = [&](float x) { return __shfl_xor_sync(~0u, x, offset); };
    const float highest = other(total.highest), sum = other(total.sum);
    const float4 value{other(total.value.x), other(total.value.y), other(total.value.z), other(total.value.w)};
    if (sum == 0) continue;
    total.Rescale(fmaxf(total.highest, highest));
    total.Add(value, highest, sum);
  }
  return total;
}

// `wait` returns when the queries and the newest keys and values are there. `values`: kAttendHeads * kConsumerWarps *
// kAttendDim floats that the warps share, `states` 2 * kAttendHeads * kConsumerWarps.
template <typename T, typename Wait>
__device__ void AttendRow(const AttendParams& params, int entries, DecodePart* parts, int thread, float* values, float* states,
                          Wait wait) {
  const RowPart part = FindPart(params, entries);
  SliceWalk<T> walk(params, part, thread);
  int slice = part.slice + thread / 32;
  const T* const query = walk.Query();
  T* const out =
      static_cast<T*>(params.out) + part.entry * params.out_stride + part.head * params.group * params.out_head_stride;
  const std::byte* place = nullptr;
  // The newest keys and values are written meanwhile: nothing but L2 may have them.
  if (slice < part.end) walk.Prefetch(place = walk.Place(slice));
  wait();
  if (part.count == 0) return;
  walk.LoadQuery(query);
#pragma unroll 1
  while (slice < part.end) {
    const int next = slice + kConsumerWarps;
    const std::byte* next_place = nullptr;
    if (next < part.end) walk.Prefetch(next_place = walk.Place(next));
    walk.Add(slice, place);
    slice = next;
    place = next_place;
  }
  float *const highest = states, *const sums = states + kConsumerWarps * kAttendHeads;
#pragma unroll 1
  for (int from = 0; from < params.group; from += kAttendHeads) {
    SyncConsumers();
    walk.Put(from, values, highest, sums);
    SyncConsumers();
    constexpr int kHeadItems = kAttendDim / 4, kStride = kDecodeHeads * kHeadItems;
    const int items = min(kAttendHeads, params.group - from) * kHeadItems, in_four = thread / kHeadItems;
    DecodeSum total{.highest = -INFINITY, .sum = 0, .value = {}};
    if (thread < items) {
      float most[kConsumerWarps], sum[kConsumerWarps];
      Load<kConsumerWarps>(highest + in_four * kConsumerWarps, most);
      Load<kConsumerWarps>(sums + in_four * kConsumerWarps, sum);
#pragma unroll
      for (int w = 0; w < kConsumerWarps; ++w) total.highest = fmaxf(total.highest, most[w]);
#pragma unroll
      for (int w = 0; w < kConsumerWarps; ++w) {
        const float* value = values + (w * kAttendHeads + in_four) * kAttendDim + thread % kHeadItems * 4;
        if (sum[w] > 0) total.Add(*reinterpret_cast<const float4*>(value), most[w], sum[w]);
      }
    }
    const auto store = [&](int item, const DecodeSum& sum) {
      const float factor = sum.sum > 0 ? __fdividef(1, sum.sum) : 0;
      *reinterpret_cast<uint2*>(out + (from + item / kHeadItems) * params.out_head_stride + item % kHeadItems * 4) =
          make_uint2(Pack<T>(sum.value.x * factor, sum.value.y * factor), Pack<T>(sum.value.z * factor, sum.value.w * factor));
    };
    if (part.count == 1) {
      if (thread < items) store(thread, total);
      continue;
    }
    DecodePart* const row = parts + (blockIdx.x - part.index) * kStride + from * kHeadItems;
    if (thread < items) PutPart(row + part.index * kStride + thread, total);
    // Every block of the row combines a share of the items, a lane for each part.
    const int lanes = min(32, 1 << (32 - __clz(part.count - 1)));
    const int item = part.index * items / part.count + thread / lanes;
    const bool combines = item < (part.index + 1) * items / part.count;
    total = CombineParts<kStride>(row + item, combines ? part.count : 0, lanes, thread % lanes);
    if (combines && thread % lanes == 0) store(item, total);
  }
}

#endif

}  // namespace berth::kernels::cuda::stream
