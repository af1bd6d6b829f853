#pragma once

#include <cstdint>

// The best token of a row as one integer, so that the best of several is their largest, in any order.
namespace berth::kernels::cuda {

// Order-preserving integers of floats, and back. The sum makes one number of both zeros.
__device__ inline uint32_t KeyOf(float x) {
  const uint32_t bits = __float_as_uint(x + 0.f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float LogitOf(uint32_t key) { return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

// The key of a logit over the complement of its id: the largest is the best token, and of equal ones the lowest id.
__device__ inline uint64_t PackBest(float logit, int id) {
  return static_cast<uint64_t>(KeyOf(logit)) << 32 | static_cast<uint32_t>(~id);
}
__device__ inline int IdOf(uint64_t best) { return ~static_cast<int>(best & 0xffffffffu); }

__device__ inline uint64_t Larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

// Larger than any logit's: the row has a NaN.
inline constexpr uint64_t kPoisonedBest = ~uint64_t{0};

}  // namespace berth::kernels::cuda
