#pragma once

#include <cstdint>

#include "kernels/cuda/util/mma.cuh"
#include "kernels/cuda/util/numeric.cuh"
#include "kernels/cuda/util/shared_address.cuh"

namespace berth::kernels::cuda {

// Wrappers of PTX that sm_80 and later have, around the products of util/mma.cuh.

// Copies 16 bytes to shared memory, or zeroes them.
__device__ inline void CopyAsync(uint32_t to, const void* from, bool copy) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(copy ? 16 : 0) : "memory");
}
__device__ inline void CopyWordAsync(uint32_t to, const int32_t* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `kPending` of this thread's latest groups are under way.
template <int kPending>
__device__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of 16-bit values; lanes 8 i to 8 i + 7 hold the addresses of matrix i's rows.
__device__ inline void LoadMatrices(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
__device__ inline void LoadMatricesTransposed(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}
// Transposes an 8 x 8 matrix of 16-bit values that lies across the warp.
__device__ inline uint32_t TransposeMatrix(uint32_t x) {
  uint32_t y;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// How far, as a power of two, weights may exceed one before their base is raised.
inline constexpr float kBaseLag = 8;

// tanh to about 1e-7.
__device__ inline float Tanh(float x) { return 1 - __fdividef(2, Exp2(2 * kLog2E * x) + 1); }

// Byte offset of 16-byte chunk `chunk` of a row of kDim 16-bit values in shared memory. Chunks are permuted so that the same
// chunk of eight consecutive rows lies in eight different groups of banks.
template <int kDim>
__device__ uint32_t ChunkOffset(int row, int chunk) {
  static_assert(kDim % 64 == 0 || kDim == 96);
  const int permuted = kDim % 64 == 0 ? chunk ^ (row & 7) : chunk ^ (row >> 1 & 3);
  return row * kDim * 2 + permuted * 16;
}

// Whether rows are a power of two long: then a counter and a lane are parts of an offset that are worked out apart.
template <int kDim>
inline constexpr bool kOffsetsInParts = (kDim & (kDim - 1)) == 0;

// That of chunk 32 i + lane, counted through rows.
template <int kDim>
__device__ uint32_t LaneChunkOffset(int i, int lane) {
  constexpr int kChunks = kDim / 8;
  if constexpr (kOffsetsInParts<kDim>) {
    return i * 32 * 16 + (ChunkOffset<kDim>(lane / kChunks, lane % kChunks) ^ ((i * (32 / kChunks)) & 7) * 16);
  } else {
    return ChunkOffset<kDim>((i * 32 + lane) / kChunks, (i * 32 + lane) % kChunks);
  }
}

// That of chunk 2 i + half of a row, half 0 or 1.
template <int kDim>
__device__ uint32_t PairChunkOffset(int row, int i, int half) {
  if constexpr (kOffsetsInParts<kDim>) {
    return ChunkOffset<kDim>(row, half) ^ (i * 32);
  } else {
    return ChunkOffset<kDim>(row, 2 * i + half);
  }
}

}  // namespace berth::kernels::cuda
