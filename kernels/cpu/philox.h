#pragma once

#include <array>
#include <cstdint>

namespace berth::kernels::cpu {

// Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The uniform number in [0, 1) that draws the token at `position`: key = seed (low word first), counter = {position, choice, 0,
// 0}, the top 53 bits of the first two words (the second word high).
double DrawUniform(uint64_t seed, uint32_t choice, uint32_t position);

}  // namespace berth::kernels::cpu
