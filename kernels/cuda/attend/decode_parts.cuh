#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/attend/sm80.cuh"

// How the blocks of decode attention hand the parts of a row to the block in which it begins.
namespace berth::kernels::cuda {

// What a block found of four dimensions of one query head. It is handed over without a fence: the reader waits for every word
// of it and leaves zeros behind, the writer inverts the bits, and no arithmetic makes the NaN whose bits are all ones.
struct alignas(16) DecodePart {
  float value[4];
  float highest, sum;  // score (base 2), sum of weights
  float unused[2];
};

inline constexpr int kMaxDecodeBlocks = 2;  // per multiprocessor
// Parts that a thread waits for at a time, so that their latencies overlap.
inline constexpr int kPartsAtOnce = 8;

// A running sum of parts, each relative to its highest score.
struct DecodeSum {
  float highest, sum;
  float4 value;

  __device__ void Rescale(float new_highest) {
    const float scale = Exp2(highest - new_highest);
    highest = new_highest;
    sum *= scale;
    value = make_float4(value.x * scale, value.y * scale, value.z * scale, value.w * scale);
  }
  // `part_highest` is at most `highest`.
  __device__ void Add(float4 part, float part_highest, float part_sum) {
    const float scale = Exp2(part_highest - highest);
    sum += part_sum * scale;
    value.x += part.x * scale;
    value.y += part.y * scale;
    value.z += part.z * scale;
    value.w += part.w * scale;
  }
};

// Leaves the sum for the block in which its row begins.
__device__ inline void PutPart(DecodePart* to, const DecodeSum& sum) {
  const auto word = [](float x) { return ~__float_as_uint(x); };
  asm volatile("st.relaxed.gpu.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to->value), "r"(word(sum.value.x)),
               "r"(word(sum.value.y)), "r"(word(sum.value.z)), "r"(word(sum.value.w))
               : "memory");
  asm volatile("st.relaxed.gpu.global.v2.b32 [%0], {%1, %2};" ::"l"(&to->highest), "r"(word(sum.highest)), "r"(word(sum.sum))
               : "memory");
}

// The bits of a part as they are now; those of one that is not there are zeros.
struct PartWords {
  uint4 value;
  uint2 state;

  __device__ void Read(const DecodePart* from) {
    asm volatile("ld.relaxed.gpu.global.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(from->value)
                 : "memory");
    asm volatile("ld.relaxed.gpu.global.v2.b32 {%0, %1}, [%2];"
                 : "=r"(state.x), "=r"(state.y)
                 : "l"(&from->highest)
                 : "memory");
  }
  __device__ bool Complete() const {
    return value.x != 0 && value.y != 0 && value.z != 0 && value.w != 0 && state.x != 0 && state.y != 0;
  }
  __device__ float highest() const { return __uint_as_float(~state.x); }
  __device__ float sum() const { return __uint_as_float(~state.y); }
  __device__ float4 four() const {
    return make_float4(__uint_as_float(~value.x), __uint_as_float(~value.y), __uint_as_float(~value.z),
                       __uint_as_float(~value.w));
  }
};

// Adds the `count` parts of later blocks to the first block's, in order; they lie kStride apart. A block waits at the end of
// its range, and only for what later blocks do at the beginning of theirs: some block need not wait, and all get their turn.
template <int kStride>
__device__ void AddParts(DecodePart* parts, int count, DecodeSum& total) {
  for (int base = 0; base < count; base += kPartsAtOnce) {
    PartWords words[kPartsAtOnce] = {};
    for (bool complete = false; !complete;) {
#pragma unroll
      for (int i = 0; i < kPartsAtOnce; ++i) {
        if (base + i < count && !words[i].Complete()) words[i].Read(parts + (base + i) * kStride);
      }
      complete = true;
#pragma unroll
      for (int i = 0; i < kPartsAtOnce; ++i) complete &= base + i >= count || words[i].Complete();
    }
    float highest = total.highest;
#pragma unroll
    for (int i = 0; i < kPartsAtOnce; ++i) {
      if (base + i >= count) break;
      parts[(base + i) * kStride] = {};
      highest = fmaxf(highest, words[i].highest());
    }
    total.Rescale(highest);
#pragma unroll
    for (int i = 0; i < kPartsAtOnce; ++i) {
      if (base + i < count) total.Add(words[i].four(), words[i].highest(), words[i].sum());
    }
  }
}

}  // namespace berth::kernels::cuda
