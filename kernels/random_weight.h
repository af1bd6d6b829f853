#pragma once

#include <cmath>
#include <cstdint>

namespace berth::kernels {

// Random weights: near enough to the normal distribution (mean 0, excess kurtosis -0.03, at most 8 deviations), and the same
// bits on every backend, because all but one multiplication is in integers.

// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
constexpr uint64_t ScrambleBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// In device code too, where std::popcount is not.
constexpr int CountOnes(uint64_t x) {
  x -= x >> 1 & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
  return static_cast<int>(((x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Fu) * 0x0101010101010101u >> 56);
}

// What RandomWeight multiplies by so that the deviation is `scale`: the ones among 64 bits have variance 16, the uniform number
// that smooths their steps 1/12, and both are counted in units of 2^-17.
inline float RandomWeightUnit(float scale) { return static_cast<float>(scale / (131072 * std::sqrt(16 + 1 / 12.0))); }

constexpr float RandomWeight(uint64_t seed, uint64_t index, float unit) {
  const uint64_t bits = ScrambleBits(seed + index * 0x9E3779B97F4A7C15u);
  const int32_t sum = CountOnes(bits) * 65536 + static_cast<int32_t>(ScrambleBits(bits) >> 48);
  return static_cast<float>(2 * sum - (64 * 65536 + 65535)) * unit;
}

}  // namespace berth::kernels
