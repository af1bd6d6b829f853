#pragma once

#include <cstdint>

// What sm_90a adds for groups of four warps and their products.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define BERTH_HAS_SM90A 1
#endif

namespace berth::kernels::cuda::sm90 {

#ifdef BERTH_HAS_SM90A

// Makes ordinary writes to shared memory known to bulk copies and products.
__device__ inline void FenceShared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A named barrier of a group of four warps.
__device__ inline void SyncWarpgroup(int barrier) { asm volatile("bar.sync %0, 128;" ::"r"(barrier) : "memory"); }

// Changes how many registers each thread of a group of four warps has.
template <int kRegisters>
__device__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// The group of four warps that a thread is in. Shuffled, so that the compiler may keep what follows from it in registers of the
// warp, where products take their descriptors from.
__device__ inline int Warpgroup() { return __shfl_sync(~0u, threadIdx.x / 128, 0); }

// Matrix descriptor of an operand in shared memory whose rows of 128 bytes are swizzled as a bulk tensor copy does it, eight
// rows after eight. `column_stride`: bytes from one 128-byte column to the next, for operands that are contiguous across the
// product's inner dimension.
__device__ inline uint64_t Descriptor(uint32_t address, uint32_t column_stride = 16) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightRows = uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kEightRows | uint64_t{column_stride >> 4} << 16 | (address & 0x3ffff) >> 4;
}

// The descriptor of what lies `bytes` behind, a multiple of 16: an addition, where one made from an address takes five
// instructions, of every warp and for every product.
__device__ inline uint64_t Behind(uint64_t descriptor, uint32_t bytes) {
  return (descriptor & ~uint64_t{0xffffffff}) | (static_cast<uint32_t>(descriptor) + (bytes >> 4));
}

// Products run behind the program: registers that it wrote before are fenced, a batch of products is committed, and its results
// count only after the wait and after Settle(), which keeps the compiler from reading them earlier.
__device__ inline void FenceProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
template <int kColumns>
__device__ void Settle(float (&c)[kColumns][4]) {
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(c[n][i])::"memory");
  }
}

#endif

}  // namespace berth::kernels::cuda::sm90
