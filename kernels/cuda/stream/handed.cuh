#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace berth::kernels::cuda::stream {

// Results on their way from the blocks that make them to the other blocks of the same kernel. Each says itself that it has
// come, so nobody has to order it with a counter, and no block waits until what it wrote can be seen: the bits of an activation
// are inverted, and 0 means "not yet", for no conversion makes a NaN of all ones. Whoever reads looks, and reads again.

// Of [tokens, width] results.
constexpr size_t HandedBytes(int64_t tokens, int64_t width) { return (tokens * width * 2 + 127) / 128 * 128; }

#if __CUDA_ARCH__ >= 900

template <typename T>
__device__ void HandOn(T* to, T value) {
  static_assert(sizeof(T) == 2);
  uint16_t bits;
  memcpy(&bits, &value, 2);
  asm volatile("st.relaxed.gpu.global.u16 [%0], %1;" ::"l"(to), "h"(static_cast<uint16_t>(~bits)) : "memory");
}

// One result, as soon as it has come.
template <typename T>
__device__ T AwaitHanded(const T* from) {
  uint16_t bits;
  do {
    asm volatile("ld.relaxed.gpu.global.u16 %0, [%1];" : "=h"(bits) : "l"(from) : "memory");
  } while (bits == 0);
  bits = ~bits;
  T value;
  memcpy(&value, &bits, 2);
  return value;
}

// Eight of them as they lie there; Missing() is not zero if one has not come.
__device__ inline uint4 LoadHanded(const std::byte* from) {
  uint4 value;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from)
               : "memory");
  return value;
}
__device__ inline uint32_t Missing(uint32_t halves) { return (halves - 0x00010001u) & ~halves & 0x80008000u; }
__device__ inline uint32_t Missing(const uint4& x) { return Missing(x.x) | Missing(x.y) | Missing(x.z) | Missing(x.w); }
__device__ inline uint4 Inverted(const uint4& x) { return {~x.x, ~x.y, ~x.z, ~x.w}; }

// Counters of all blocks. Nothing is ordered by them.
__device__ inline uint64_t LoadCount(const uint64_t* counter) {
  uint64_t value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(counter) : "memory");
  return value;
}
__device__ inline void Count(uint64_t* counter) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], 1;" ::"l"(counter) : "memory");
}

#endif

}  // namespace berth::kernels::cuda::stream
