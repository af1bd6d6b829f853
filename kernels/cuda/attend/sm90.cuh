#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/sm90.cuh"

// Wrappers of PTX that only sm_90a has, as attention of prompts uses it: bulk tensor copies and products of four warps, whose
// accumulators are laid out per warp like C in mma.cuh, 16 rows each.
namespace berth::kernels::cuda::sm90 {

#ifdef BERTH_HAS_SM90A

// Copies the box of a two-dimensional tensor map at (column, row).
__device__ inline void CopyBox(uint32_t to, const void* map, int column, int row, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(SharedAddress(barrier))
      : "memory");
}

// The same of a three-dimensional map.
__device__ inline void CopyBox(uint32_t to, const void* map, int column, int middle, int row, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
      "l"(map), "r"(column), "r"(middle), "r"(row), "r"(SharedAddress(barrier))
      : "memory");
}

// Named barriers of two groups of four warps, one of which only says that it was there.
__device__ inline void AwaitOther(int barrier) { asm volatile("bar.sync %0, 256;" ::"r"(barrier) : "memory"); }
__device__ inline void TellOther(int barrier) { asm volatile("bar.arrive %0, 256;" ::"r"(barrier) : "memory"); }

// The f32 results of 64 and 128 columns: as operands, and as their names in an instruction.
#define BERTH_C(i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
#define BERTH_C64 BERTH_C(0), BERTH_C(1), BERTH_C(2), BERTH_C(3), BERTH_C(4), BERTH_C(5), BERTH_C(6), BERTH_C(7)
#define BERTH_C128 \
  BERTH_C64, BERTH_C(8), BERTH_C(9), BERTH_C(10), BERTH_C(11), BERTH_C(12), BERTH_C(13), BERTH_C(14), BERTH_C(15)
#define BERTH_N64                                                                                                       \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, " \
  "%25, %26, %27, %28, %29, %30, %31"
#define BERTH_N128                                                                                                   \
  BERTH_N64                                                                                                          \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
  "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// c [64, 128] = a · bᵀ, plus c if `add`, with 16 inner elements: a [64, 16] and b [128, 16] by descriptor, inner elements
// contiguous.
template <typename T>
__device__ void MultiplyShared(float (&c)[16][4], uint64_t a, uint64_t b, int add) {
#define BERTH_MULTIPLY(type)                                                                                       \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type \
               " {" BERTH_N128 "}, %64, %65, p, 1, 1, 0, 0; }"                                                     \
               : BERTH_C128                                                                                        \
               : "l"(a), "l"(b), "r"(add))
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    BERTH_MULTIPLY("bf16");
  } else {
    BERTH_MULTIPLY("f16");
  }
#undef BERTH_MULTIPLY
}

// c [64, 8 · kColumns] += a · b with 16 inner elements: a [64, 16] in registers, b [16, 8 · kColumns] by descriptor, columns
// contiguous.
template <typename T, int kColumns>
__device__ void MultiplyRegisters(float (&c)[kColumns][4], const uint32_t (&a)[4], uint64_t b) {
#define BERTH_MULTIPLY(columns, type, names, operands, a_names, b_name)                                                  \
  asm volatile("{ .reg .pred p; setp.eq.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type \
               " {" names "}, {" a_names "}, " b_name ", p, 1, 1, 1; }"                                                  \
               : operands                                                                                                \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define BERTH_MULTIPLY_AS(type)                                                       \
  if constexpr (kColumns == 16) {                                                     \
    BERTH_MULTIPLY("128", type, BERTH_N128, BERTH_C128, "%64, %65, %66, %67", "%68"); \
  } else {                                                                            \
    static_assert(kColumns == 8);                                                     \
    BERTH_MULTIPLY("64", type, BERTH_N64, BERTH_C64, "%32, %33, %34, %35", "%36");    \
  }
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    BERTH_MULTIPLY_AS("bf16")
  } else {
    BERTH_MULTIPLY_AS("f16")
  }
#undef BERTH_MULTIPLY_AS
#undef BERTH_MULTIPLY
}

#undef BERTH_N128
#undef BERTH_N64
#undef BERTH_C128
#undef BERTH_C64
#undef BERTH_C

#endif

}  // namespace berth::kernels::cuda::sm90
