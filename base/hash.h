#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace berth::base {

inline constexpr uint64_t kHashMultiplierA = 0x9e3779b97f4a7c15;
inline constexpr uint64_t kHashMultiplierB = 0xd6e8feb86659fd93;

// Both halves of a 64 × 64 bit product folded together.
constexpr uint64_t FoldedProduct(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// What Hash64 is made of, for those who cannot call it: HashCombine(seed, size in bytes), then with every 8 bytes,
// little-endian and filled up with zeros, then HashEnd.
constexpr uint64_t HashCombine(uint64_t hash, uint64_t value) {
  return FoldedProduct((hash ^ kHashMultiplierA) + 0x2545f4914f6cdd1d, (value ^ kHashMultiplierB) + hash);
}

constexpr uint64_t HashEnd(uint64_t hash) { return FoldedProduct(hash ^ kHashMultiplierB, kHashMultiplierA); }

// A 64-bit hash that is the same in every process, build and machine: routing, block hashes and the simulated engine depend on
// its values, which base/hash_test.cc pins. Not for adversarial input where a collision would be believed without a comparison.
uint64_t Hash64(std::string_view bytes, uint64_t seed = 0);

// Hash64 of four texts of one length, a multiple of 8: a processor works on the four at once, in the time of little more than
// one.
std::array<uint64_t, 4> Hash64x4(const std::array<const char*, 4>& texts, size_t bytes_of_each);

}  // namespace berth::base
