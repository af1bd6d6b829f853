#pragma once

#include <cstdint>

#include "kernels/cuda/stream/chain_params.cuh"
#include "kernels/cuda/util/bulk_copy.cuh"

namespace berth::kernels::cuda::stream {

#if __CUDA_ARCH__ >= 900

// A place in the ring of stages.
struct RingCursor {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void Advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// What the warps of a block share. `full` and `empty`: of the stages of the ring. Consumers wait for `norm_full`, the weight of
// a link's norm; for `chosen`, `*set`, where this chain's links hand on; for `ready`, once for each link behind the first.
struct ChainShared {
  Barrier *full, *empty, *norm_full, *ready, *chosen;
  std::byte** set;
  float *squares, *sums, *norm;
  std::byte* stages;

  __device__ ChainShared(std::byte* shared, int norm_bytes)
      : full(reinterpret_cast<Barrier*>(shared)),
        empty(full + kMaxStages),
        norm_full(empty + kMaxStages),
        ready(norm_full + 1),
        chosen(ready + 1),
        set(reinterpret_cast<std::byte**>(chosen + 1)),
        squares(reinterpret_cast<float*>(shared + kBarrierBytes)),
        sums(reinterpret_cast<float*>(shared + kBarrierBytes + kSquareBytes)),
        norm(reinterpret_cast<float*>(shared + kFixedBytes)),
        stages(shared + kFixedBytes + norm_bytes) {}

  // One thread.
  __device__ void Init(int stage_count) const {
    for (int i = 0; i < stage_count; ++i) {
      InitBarrier(full + i, 1);
      InitBarrier(empty + i, kConsumerWarps);
    }
    InitBarrier(norm_full, 1);
    InitBarrier(ready, 1);
    InitBarrier(chosen, 1);
    PublishBarriers();
  }
};

// Consumers say that a product's results are on their way, to the warp that waits for the other blocks.
inline constexpr int kWrittenThreads = (kConsumerWarps + 1) * 32;
__device__ inline void TellWritten() { asm volatile("bar.arrive 2, %0;" ::"n"(kWrittenThreads) : "memory"); }
__device__ inline void AwaitWritten() { asm volatile("bar.sync 2, %0;" ::"n"(kWrittenThreads) : "memory"); }

// The first tile of a block's share of a product.
__device__ inline int Share(const LinkProduct& link, int block) {
  return static_cast<int>(static_cast<uint32_t>(block * link.tiles) / gridDim.x);
}
template <typename T>
__device__ int Chunks(const LinkProduct& link) {
  return static_cast<int>((link.k * sizeof(T) + kChunkBytes - 1) / kChunkBytes);
}
template <bool kLinked, typename T>
__device__ int Links(const ChainParams<T>& params) {
  return kLinked ? params.links : 1;
}

#endif

}  // namespace berth::kernels::cuda::stream
