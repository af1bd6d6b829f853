#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace berth::base {

// A 64-bit hash that is the same in every process, build and machine: routing, block hashes and the simulated engine depend on
// its values, which base/hash_test.cc pins. Not for adversarial input where a collision would be believed without a comparison.
uint64_t Hash64(std::string_view bytes, uint64_t seed = 0);

// Hash64 of four texts of one length, read part by part: a processor works on the four at once, in the time of little more than
// one.
class Hash64x4 {
 public:
  explicit Hash64x4(size_t bytes_of_each);
  // The next bytes of each text; a multiple of 8.
  void Add(const std::array<const char*, 4>& parts, size_t bytes_of_each);
  std::array<uint64_t, 4> Finish() const;

 private:
  std::array<uint64_t, 4> hashes_;
};

// Mixes one more 64-bit value into a running hash.
uint64_t HashCombine(uint64_t hash, uint64_t value);

}  // namespace berth::base
