#pragma once

#include <cstdint>

#include "kernels/cuda/util/bulk_copy.cuh"

namespace berth::kernels::cuda {

#if __CUDA_ARCH__ >= 900

// Blocks of one cluster and their shared memory (PTX ISA, "Cluster", "st.async"). A launch without clusters has one rank, and
// may use nothing else of these: illegal instructions were seen.
__device__ inline int ClusterRank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}
__device__ inline int ClusterRanks() {
  uint32_t ranks;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(ranks));
  return static_cast<int>(ranks);
}

// All threads of all blocks of the cluster, whose barriers are initialised from here on.
__device__ inline void SyncCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The same variable of another block.
__device__ inline uint32_t AddressAt(uint32_t shared_address, int rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address), "r"(rank));
  return address;
}

// Stores to the block's memory, and counts the bytes at its barrier.
__device__ inline void StoreAsync(uint32_t to, float x, uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to), "r"(__float_as_uint(x)),
               "r"(barrier)
               : "memory");
}
__device__ inline void StoreAsync(uint32_t to, float4 x, uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
               "r"(__float_as_uint(x.x)), "r"(__float_as_uint(x.y)), "r"(__float_as_uint(x.z)), "r"(__float_as_uint(x.w)),
               "r"(barrier)
               : "memory");
}

// Arrive() at another block's barrier, where all that is to be said is that something has been read.
__device__ inline void ArriveAt(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// WaitFor() where other blocks store.
__device__ inline void WaitForCluster(Barrier* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

#endif

}  // namespace berth::kernels::cuda
