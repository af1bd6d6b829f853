#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace berth::text {

// Regular expressions of what JSON schemas can ask of a string or a number.

// Of a `format`; "" when it is unknown.
std::string FormatPattern(const std::string& format);
// Of the integers from `low` to `high`, each maybe without limit.
std::string IntegerPattern(const std::optional<int64_t>& low, const std::optional<int64_t>& high);

struct NumberBounds {
  std::optional<int64_t> low, high;
  // Without the bound itself.
  bool above_low = false, below_high = false;
};
// Of the numbers within, without exponents. There must be some.
std::string NumberPattern(const NumberBounds& bounds);

}  // namespace berth::text
