#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/grammar/grammar.h"

namespace berth::text {

// A finite decimal number: ±whole.fraction, without zeros at its outer ends ("" is 0).
struct Decimal {
  bool negative = false;
  std::string whole, fraction;

  bool zero() const { return whole.empty() && fraction.empty(); }
};
inline constexpr size_t kMaxDecimalDigits = 20;  // before the point, and after it
// Of a number as JSON writes it. Empty when it has more digits than that.
std::optional<Decimal> ParseDecimal(std::string_view json);

// What a schema asks of a number.
struct NumberLimits {
  struct Bound {
    Decimal value;
    bool least = false;      // else the most
    bool exclusive = false;  // the bound itself is outside
  };
  std::vector<Bound> bounds;
  std::optional<Decimal> multiple_of;
  bool integer = false;  // written without a point
};
// Adds an expression of exactly these numbers, of any count of digits, without exponents and -0. OUT_OF_RANGE says why
// `multiple_of`, which must be above 0, is not supported; INVALID_ARGUMENT that there is no such number.
absl::StatusOr<Grammar::ExprId> AppendNumber(const NumberLimits& limits, Grammar& grammar);

}  // namespace berth::text
