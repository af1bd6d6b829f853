#pragma once

#include <cstdint>

#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/sm90.cuh"

// Turns of two groups of four warps, as attention of prompts on sm_90a takes them.
namespace berth::kernels::cuda::sm90 {

#ifdef BERTH_HAS_SM90A

// Named barriers of two groups of four warps, one of which only says that it was there.
__device__ inline void AwaitOther(int barrier) { asm volatile("bar.sync %0, 256;" ::"r"(barrier) : "memory"); }
__device__ inline void TellOther(int barrier) { asm volatile("bar.arrive %0, 256;" ::"r"(barrier) : "memory"); }

#endif

}  // namespace berth::kernels::cuda::sm90
