#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/util/sm90.cuh"

// Products of four warps, whose accumulators are laid out per warp like C in mma.cuh, 16 rows each; they count after
// WaitForProducts and Settle.
namespace berth::kernels::cuda::sm90 {

#ifdef BERTH_HAS_SM90A

// Eight registers, the results of 16 columns: as operands, and as their names in the instruction.
#define BERTH_C(i)                                                                                                          \
  "+f"(c[2 * i][0]), "+f"(c[2 * i][1]), "+f"(c[2 * i][2]), "+f"(c[2 * i][3]), "+f"(c[2 * i + 1][0]), "+f"(c[2 * i + 1][1]), \
      "+f"(c[2 * i + 1][2]), "+f"(c[2 * i + 1][3])
#define BERTH_C1 BERTH_C(0)
#define BERTH_C2 BERTH_C1, BERTH_C(1)
#define BERTH_C4 BERTH_C2, BERTH_C(2), BERTH_C(3)
#define BERTH_C5 BERTH_C4, BERTH_C(4)
#define BERTH_C6 BERTH_C5, BERTH_C(5)
#define BERTH_C7 BERTH_C6, BERTH_C(6)
#define BERTH_C8 BERTH_C7, BERTH_C(7)
#define BERTH_C9 BERTH_C8, BERTH_C(8)
#define BERTH_C10 BERTH_C8, BERTH_C(8), BERTH_C(9)
#define BERTH_C12 BERTH_C10, BERTH_C(10), BERTH_C(11)
#define BERTH_C13 BERTH_C12, BERTH_C(12)
#define BERTH_C14 BERTH_C12, BERTH_C(12), BERTH_C(13)
#define BERTH_C16 BERTH_C14, BERTH_C(14), BERTH_C(15)
#define BERTH_N1 "%0, %1, %2, %3, %4, %5, %6, %7"
#define BERTH_N2 BERTH_N1 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define BERTH_N4 BERTH_N2 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define BERTH_N5 BERTH_N4 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define BERTH_N6 BERTH_N5 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define BERTH_N7 BERTH_N6 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define BERTH_N8                                                                                                          \
  BERTH_N5                                                                                                                \
  ", %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, " \
  "%63"
#define BERTH_N9 BERTH_N8 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define BERTH_N10 BERTH_N8 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define BERTH_N12 BERTH_N10 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define BERTH_N13 BERTH_N12 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define BERTH_N14 BERTH_N12 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define BERTH_N16 BERTH_N14 ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// By a group of four warps, before its first products: of the 64 rows of 128 bytes that it multiplies in each stage, those from
// `first` on, which no copy reaches, become zeros. What lies there costs as much power as any other row, and where power is
// what holds a product that is time. Clearing is, too, so it is left where a stage is filled a few times only, or nothing is
// multiplied.
__device__ inline void ClearRows(std::byte* rows, int stages, int stage_bytes, int first, int steps, int barrier) {
  constexpr int kRows = 64, kRowBytes = 128, kFills = 6;
  if (first <= 0 || first >= kRows || steps < kFills * stages) return;
#pragma unroll 1
  for (int stage = 0; stage < stages; ++stage, rows += stage_bytes) {
    for (int at = first * kRowBytes + threadIdx.x % 128 * 16; at < kRows * kRowBytes; at += 128 * 16) {
      *reinterpret_cast<uint4*>(rows + at) = {};
    }
  }
  FenceShared();
  SyncWarpgroup(barrier);
}

// c [64, kWidth] += a · bᵀ over 16 inner elements by four warps: a [64, 16] and b [kWidth, 16] by descriptor, inner elements
// contiguous.
template <typename T, int kWidth>
__device__ void MultiplyTile(float (&c)[kWidth / 8][4], uint64_t a, uint64_t b) {
#define BERTH_MULTIPLY(width, type, names, operands, a_name, b_name)                                                   \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #width "k16.f32." type "." type " {" names "}, " a_name ", " b_name \
               ", 1, 1, 1, 0, 0;"                                                                                      \
               : operands                                                                                              \
               : "l"(a), "l"(b))
#define BERTH_MULTIPLY_AS(type)                                      \
  if constexpr (kWidth == 16) {                                      \
    BERTH_MULTIPLY(16, type, BERTH_N1, BERTH_C1, "%8", "%9");        \
  } else if constexpr (kWidth == 32) {                               \
    BERTH_MULTIPLY(32, type, BERTH_N2, BERTH_C2, "%16", "%17");      \
  } else if constexpr (kWidth == 64) {                               \
    BERTH_MULTIPLY(64, type, BERTH_N4, BERTH_C4, "%32", "%33");      \
  } else if constexpr (kWidth == 80) {                               \
    BERTH_MULTIPLY(80, type, BERTH_N5, BERTH_C5, "%40", "%41");      \
  } else if constexpr (kWidth == 96) {                               \
    BERTH_MULTIPLY(96, type, BERTH_N6, BERTH_C6, "%48", "%49");      \
  } else if constexpr (kWidth == 112) {                              \
    BERTH_MULTIPLY(112, type, BERTH_N7, BERTH_C7, "%56", "%57");     \
  } else if constexpr (kWidth == 144) {                              \
    BERTH_MULTIPLY(144, type, BERTH_N9, BERTH_C9, "%72", "%73");     \
  } else if constexpr (kWidth == 208) {                              \
    BERTH_MULTIPLY(208, type, BERTH_N13, BERTH_C13, "%104", "%105"); \
  } else if constexpr (kWidth == 128) {                              \
    BERTH_MULTIPLY(128, type, BERTH_N8, BERTH_C8, "%64", "%65");     \
  } else if constexpr (kWidth == 160) {                              \
    BERTH_MULTIPLY(160, type, BERTH_N10, BERTH_C10, "%80", "%81");   \
  } else if constexpr (kWidth == 192) {                              \
    BERTH_MULTIPLY(192, type, BERTH_N12, BERTH_C12, "%96", "%97");   \
  } else if constexpr (kWidth == 224) {                              \
    BERTH_MULTIPLY(224, type, BERTH_N14, BERTH_C14, "%112", "%113"); \
  } else {                                                           \
    static_assert(kWidth == 256);                                    \
    BERTH_MULTIPLY(256, type, BERTH_N16, BERTH_C16, "%128", "%129"); \
  }
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    BERTH_MULTIPLY_AS("bf16")
  } else {
    BERTH_MULTIPLY_AS("f16")
  }
#undef BERTH_MULTIPLY_AS
#undef BERTH_MULTIPLY
}

// c [64, 128] = a · bᵀ, plus c if `add`, with 16 inner elements: a [64, 16] and b [128, 16] by descriptor, inner elements
// contiguous.
template <typename T>
__device__ void MultiplyShared(float (&c)[16][4], uint64_t a, uint64_t b, int add) {
#define BERTH_MULTIPLY(type)                                                                                       \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type \
               " {" BERTH_N8 "}, %64, %65, p, 1, 1, 0, 0; }"                                                       \
               : BERTH_C8                                                                                          \
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
#define BERTH_MULTIPLY_AS(type)                                                   \
  if constexpr (kColumns == 16) {                                                 \
    BERTH_MULTIPLY("128", type, BERTH_N8, BERTH_C8, "%64, %65, %66, %67", "%68"); \
  } else {                                                                        \
    static_assert(kColumns == 8);                                                 \
    BERTH_MULTIPLY("64", type, BERTH_N4, BERTH_C4, "%32, %33, %34, %35", "%36");  \
  }
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    BERTH_MULTIPLY_AS("bf16")
  } else {
    BERTH_MULTIPLY_AS("f16")
  }
#undef BERTH_MULTIPLY_AS
#undef BERTH_MULTIPLY
}

#undef BERTH_N16
#undef BERTH_N14
#undef BERTH_N13
#undef BERTH_N12
#undef BERTH_N10
#undef BERTH_N9
#undef BERTH_N8
#undef BERTH_N5
#undef BERTH_N4
#undef BERTH_N2
#undef BERTH_N1
#undef BERTH_C16
#undef BERTH_C14
#undef BERTH_C13
#undef BERTH_C12
#undef BERTH_C10
#undef BERTH_C9
#undef BERTH_C8
#undef BERTH_C5
#undef BERTH_C4
#undef BERTH_C2
#undef BERTH_C1
#undef BERTH_C

#endif

}  // namespace berth::kernels::cuda::sm90
