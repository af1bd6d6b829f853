#pragma once

#include <cstdint>

#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/sm90.cuh"

// Wrappers of PTX as attention of prompts on sm_90a uses it: bulk tensor copies, and turns of two groups of four warps.
namespace berth::kernels::cuda::sm90 {

#ifdef BERTH_HAS_SM90A

// Copies the box of a two-dimensional tensor map at (column, row).
__device__ inline void CopyBox(uint32_t to, const void* map, int column, int row, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(SharedAddress(barrier))
      : "memory");
}

// The same to every block of the cluster in the set `blocks`, each of which counts the bytes at its barrier.
__device__ inline void CopyBoxToAll(uint32_t to, const void* map, int column, int row, Barrier* barrier, uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], "
      "[%4], %5;" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(SharedAddress(barrier)), "h"(blocks)
      : "memory");
}

// CopyBox of a three-dimensional map.
__device__ inline void CopyBox(uint32_t to, const void* map, int column, int middle, int row, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
      "l"(map), "r"(column), "r"(middle), "r"(row), "r"(SharedAddress(barrier))
      : "memory");
}

// Named barriers of two groups of four warps, one of which only says that it was there.
__device__ inline void AwaitOther(int barrier) { asm volatile("bar.sync %0, 256;" ::"r"(barrier) : "memory"); }
__device__ inline void TellOther(int barrier) { asm volatile("bar.arrive %0, 256;" ::"r"(barrier) : "memory"); }

#endif

}  // namespace berth::kernels::cuda::sm90
