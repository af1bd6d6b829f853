#pragma once

#include <cstdint>

namespace berth::kernels::cuda {

// The uniform number in [0, 1) that draws the token at `position`: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel
// random numbers: as easy as 1, 2, 3", SC 2011) with key = seed, counter = {position, choice, 0, 0}; the top 53 bits of the
// first two words, the second word high. Equal to kernels/cpu/philox.h.
__device__ inline double DrawUniform(uint64_t seed, uint32_t choice, uint32_t position) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  uint32_t c0 = position, c1 = choice, c2 = 0, c3 = 0;
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const uint64_t bits = (static_cast<uint64_t>(c1) << 32 | c0) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace berth::kernels::cuda
