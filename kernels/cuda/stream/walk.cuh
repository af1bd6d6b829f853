#pragma once

#include <cstdint>

#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda::stream {

// What the two streaming kernels share.
inline constexpr int kConsumerWarps = 8;
inline constexpr int kThreads = (kConsumerWarps + 1) * 32;  // the last warp produces

#if __CUDA_ARCH__ >= 900

// Where a block is in its walk over (tile, chunk).
struct Cursor {
  int tile = 0, chunk = 0, stage = 0;
  uint32_t parity = 0;

  __device__ void Advance(int chunks, int stages) {
    if (++chunk == chunks) {
      chunk = 0;
      ++tile;
    }
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

__device__ inline void SyncConsumers() { asm volatile("bar.sync 1, %0;" ::"n"(kConsumerWarps * 32) : "memory"); }

// Multiplies eight elements of a token with the norm's weight; the sum of their squares before.
template <typename T>
__device__ float Scale(const float (&norm)[8], float offset, uint4& token) {
  float values[8], squares = 0;
  Load<8>(reinterpret_cast<const T*>(&token), values);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    squares += values[e] * values[e];
    values[e] *= norm[e] + offset;
  }
  Store<8>(values, reinterpret_cast<T*>(&token));
  return squares;
}

#endif

}  // namespace berth::kernels::cuda::stream
