#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace berth::text {

// Regular expressions of what JSON schemas can ask of a string or an integer.

// Of a `format`; "" when it is unknown.
std::string FormatPattern(const std::string& format);
// Of the integers from `low` to `high`, each maybe without limit.
std::string IntegerPattern(const std::optional<int64_t>& low, const std::optional<int64_t>& high);

}  // namespace berth::text
