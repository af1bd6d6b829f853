#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/util/shared_address.cuh"

namespace berth::kernels::cuda {

#if __CUDA_ARCH__ >= 900

// Hopper's asynchronous copies from device into shared memory, and the barriers in shared memory that count their bytes (PTX
// ISA, "mbarrier" and "cp.async.bulk"). A barrier's phase ends when its arrivals and the bytes announced to it are complete;
// waiting names the parity of the phase that is to end: 0, 1, 0, …
using Barrier = uint64_t;

__device__ inline void InitBarrier(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to the copy engine. By the thread that initialised them.
__device__ inline void PublishBarriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives once and announces `bytes` that copies will bring.
__device__ inline void ArriveAndExpect(Barrier* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(bytes) : "memory");
}

__device__ inline void Arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}

__device__ inline void WaitFor(Barrier* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// L2 policies: for what is read once, it leaves first; for everything else.
__device__ inline uint64_t StreamingPolicy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline uint64_t NormalPolicy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// `to` in shared memory, addresses and `bytes` multiples of 16.
__device__ inline void BulkCopy(void* to, const void* from, uint32_t bytes, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(SharedAddress(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}
__device__ inline void BulkCopy(void* to, const void* from, uint32_t bytes, Barrier* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          SharedAddress(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// A box of a tensor of rank 4 at the coordinates `c`, as the map says; `map` is a kernel parameter (__grid_constant__). `to` is
// a multiple of 128. What lies outside the tensor arrives as zeros and counts as bytes.
__device__ inline void TensorCopy(void* to, const CUtensorMap* map, int c0, int c1, int c2, int c3, Barrier* barrier,
                                  uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// The same of rank 5, 3 and 2.
__device__ inline void TensorCopy(void* to, const CUtensorMap* map, int c0, int c1, int c2, int c3, int c4, Barrier* barrier,
                                  uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5, %6}], [%7], %8;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}
__device__ inline void TensorCopy(void* to, const CUtensorMap* map, int c0, int c1, int c2, Barrier* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}
__device__ inline void TensorCopy(void* to, const CUtensorMap* map, int c0, int c1, Barrier* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(c0), "r"(c1), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// Rank 2, to the same place of every block of the cluster in the set `blocks`, each of which counts the bytes at its barrier.
__device__ inline void TensorCopyToAll(void* to, const CUtensorMap* map, int c0, int c1, Barrier* barrier, uint16_t blocks,
                                       uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5, %6;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(c0), "r"(c1), "r"(SharedAddress(barrier)), "h"(blocks), "l"(policy)
      : "memory");
}

// Brings the map itself close.
__device__ inline void PrefetchMap(const CUtensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

#endif

}  // namespace berth::kernels::cuda
