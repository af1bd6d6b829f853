#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "kernels/cuda/util/bulk_copy.cuh"

// The ceiling of everything that reads: bulk copies into shared memory and nothing else, plain loads before sm_90.
namespace berth::kernels::bench {

inline constexpr int kReadBytes = 16 << 10, kReadStages = 6;  // a copy, and how many a block has under way
inline constexpr int kReadBlocks = 2, kReadThreads = 256;     // per multiprocessor, per block

// Every block fetches each gridDim-th piece.
static __global__ void BulkRead(const std::byte* from, int64_t pieces) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) std::byte read_shared[];
  __shared__ cuda::Barrier full[kReadStages];
  if (threadIdx.x != 0) return;
  for (cuda::Barrier& barrier : full) cuda::InitBarrier(&barrier, 1);
  cuda::PublishBarriers();
  const int64_t mine = (pieces - blockIdx.x + gridDim.x - 1) / gridDim.x;
  const auto issue = [&](int64_t i) {
    cuda::ArriveAndExpect(full + i % kReadStages, kReadBytes);
    cuda::BulkCopy(read_shared + i % kReadStages * kReadBytes, from + (i * gridDim.x + blockIdx.x) * kReadBytes, kReadBytes,
                   full + i % kReadStages, cuda::StreamingPolicy());
  };
  for (int64_t i = 0; i < kReadStages && i < mine; ++i) issue(i);
  for (int64_t i = 0; i < mine; ++i) {
    cuda::WaitFor(full + i % kReadStages, i / kReadStages % 2);
    if (i + kReadStages < mine) issue(i + kReadStages);
  }
#else
  const int64_t words = pieces * kReadBytes / static_cast<int64_t>(sizeof(int4));
  int sum = 0;
#pragma unroll 8
  for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < words;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    sum += __ldg(reinterpret_cast<const int4*>(from) + i).x;
  }
  if (sum == 0x7FFFFFFF) __trap();  // keeps the loads
#endif
}

// Queues the reading of `bytes`, a multiple of kReadBytes.
inline void QueueBulkRead(cudaStream_t stream, int multiprocessors, const void* from, size_t bytes) {
  constexpr int kShared = kReadStages * kReadBytes;
  const cudaError_t error = cudaFuncSetAttribute(BulkRead, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  BERTH_CHECK(error == cudaSuccess) << cudaGetErrorString(error);
  BulkRead<<<kReadBlocks * multiprocessors, kReadThreads, kShared, stream>>>(static_cast<const std::byte*>(from),
                                                                             static_cast<int64_t>(bytes / kReadBytes));
}

}  // namespace berth::kernels::bench
