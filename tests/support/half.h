#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace berth::testing {

// The bits of the nearest IEEE 754 half, ties to even. (Not every compiler has a type for it on x86.)
inline uint16_t HalfBits(float value) {
  const float size = std::fabs(value);
  const int exponent = size == 0 ? -14 : std::max(std::ilogb(size), -14);
  const int units = static_cast<int>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  const int bits = size < 65520 ? ((exponent + 14) << 10) + units : 0x7C00;
  return static_cast<uint16_t>(std::signbit(value) << 15 | bits);
}

}  // namespace berth::testing
