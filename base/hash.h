#pragma once

#include <cstdint>
#include <string_view>

namespace berth::base {

// A 64-bit hash that is the same in every process, build and machine: routing, block hashes and the simulated engine depend on
// its values, which base/hash_test.cc pins. Not for adversarial input where a collision would be believed without a comparison.
uint64_t Hash64(std::string_view bytes, uint64_t seed = 0);

// Mixes one more 64-bit value into a running hash.
uint64_t HashCombine(uint64_t hash, uint64_t value);

}  // namespace berth::base
