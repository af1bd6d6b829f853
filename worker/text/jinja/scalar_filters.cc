#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "worker/text/jinja/arguments.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/operators.h"
#include "worker/text/jinja/strings.h"
#include "worker/text/jinja/unicode.h"

namespace berth::text::jinja {
namespace {

// Filters of text.

template <std::string (*map)(std::string_view)>
absl::StatusOr<Value> MapText(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("the filter", arguments, {}); !bound.ok()) return bound.status();
  BERTH_ASSIGN_OR_RETURN(const std::string text, Text(runtime, input));
  return Value(map(text));
}

// Unlike str.title(), words begin after white space, a hyphen or an opening bracket only.
std::string TitleWords(std::string_view text) {
  std::string out;
  bool start = true;
  for (std::string_view one : CodePoints(text)) {
    const bool separator = IsSpace(ToCodePoint(one)) || one == "-" || one == "(" || one == "{" || one == "[" || one == "<";
    out += separator ? std::string(one) : start ? Upper(one) : Lower(one);
    start = separator;
  }
  return out;
}

std::string Same(std::string_view text) { return std::string(text); }

absl::StatusOr<Value> TrimFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("trim", arguments, {"chars"}));
  BERTH_ASSIGN_OR_RETURN(const std::string text, Text(runtime, input));
  const std::string* chars = bound[0].string();
  return Value(StripRight(StripLeft(text, chars), chars));
}

absl::StatusOr<Value> ReplaceFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("replace", arguments, {"old!", "new!", "count"}));
  BERTH_ASSIGN_OR_RETURN(const std::string text, Text(runtime, input));
  BERTH_ASSIGN_OR_RETURN(const std::string from, Text(runtime, bound[0]));
  BERTH_ASSIGN_OR_RETURN(const std::string to, Text(runtime, bound[1]));
  BERTH_ASSIGN_OR_RETURN(const int64_t limit, IntegerArgument("replace: the count", bound[2], -1));
  BERTH_RETURN_IF_ERROR(runtime.Charge(CountOccurrences(text, from) * to.size()));
  return Value(Replace(text, from, to, limit));
}

absl::StatusOr<Value> IndentFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("indent", arguments, {"width", "first", "blank"}));
  std::string indention;
  if (bound[0].string() != nullptr) {
    indention = *bound[0].string();
  } else {
    BERTH_ASSIGN_OR_RETURN(const int64_t width, IntegerArgument("indent: the width", bound[0], 4));
    indention.assign(std::clamp<int64_t>(width, 0, kMaxText), ' ');
  }
  BERTH_ASSIGN_OR_RETURN(const std::string text, Text(runtime, input));
  const std::vector<std::string> lines = SplitLines(text + "\n", false);
  BERTH_RETURN_IF_ERROR(runtime.Charge((lines.size() + 1) * indention.size()));
  std::string out = bound[1].Truthy() ? indention : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (bound[2].Truthy() || !lines[i].empty())) out += indention;
    out += lines[i];
  }
  return Value(std::move(out));
}

absl::StatusOr<Value> ToJsonFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound,
                         Bind("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style{.ensure_ascii = bound[0].Truthy(), .sort_keys = bound[3].Truthy()};
  if (bound[1].string() != nullptr || bound[1].is_integral()) {
    style.multi_line = true;
    style.item_separator = ",";
    style.indent =
        bound[1].string() != nullptr ? *bound[1].string() : std::string(std::clamp<int64_t>(bound[1].integer(), 0, 100), ' ');
  }
  if (bound[2].Truthy()) {
    BERTH_ASSIGN_OR_RETURN(const std::vector<Value> pair, Iterate(runtime, bound[2]));
    if (pair.size() != 2 || pair[0].string() == nullptr || pair[1].string() == nullptr) {
      return absl::InvalidArgumentError("tojson: the separators are not two strings");
    }
    style.item_separator = *pair[0].string();
    style.key_separator = *pair[1].string();
  }
  BERTH_ASSIGN_OR_RETURN(std::string text, ToJson(input, style));
  BERTH_RETURN_IF_ERROR(runtime.Charge(text.size() + input.weight()));
  return Value(std::move(text));
}

// Filters of numbers.

absl::StatusOr<Value> AbsFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("abs", arguments, {}); !bound.ok()) return bound.status();
  if (input.is_float()) return Value(std::abs(input.number()));
  if (!input.is_integral())
    return absl::InvalidArgumentError(Cat("abs: a value of type ", input.TypeName(), " is not a number"));
  return input.integer() < 0 ? Arithmetic(runtime, "-", Value(int64_t{0}), input)
                             : absl::StatusOr<Value>(Value(input.integer()));
}

// What Python's float() reads from a text, or nothing.
bool ParseFloat(std::string_view text, double& number) {
  const std::string stripped(StripRight(StripLeft(text)));
  return stripped.find_first_of("xX") == std::string::npos && absl::SimpleAtod(stripped, &number);
}

absl::StatusOr<Value> IntFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("int", arguments, {"default", "base"}));
  const Value fallback = bound[0].is_undefined() ? Value(int64_t{0}) : bound[0];
  BERTH_ASSIGN_OR_RETURN(const int64_t base, IntegerArgument("int: the base", bound[1], 10));
  if (base != 10) return absl::InvalidArgumentError("int: a base other than ten is not supported");
  if (input.is_undefined()) return absl::InvalidArgumentError(input.UndefinedMessage());
  if (input.is_integral()) return Value(input.integer());
  double number = 0;
  if (input.string() != nullptr) {
    int64_t integer = 0;
    if (absl::SimpleAtoi(std::string(StripRight(StripLeft(*input.string()))), &integer)) return Value(integer);
    if (!ParseFloat(*input.string(), number)) return fallback;
  } else if (input.is_float()) {
    number = input.number();
  } else {
    return fallback;
  }
  if (std::isnan(number)) return fallback;
  if (std::abs(number) >= 9.2e18) return absl::InvalidArgumentError("int: the number is beyond 64 bits");
  return Value(static_cast<int64_t>(number));
}

absl::StatusOr<Value> FloatFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("float", arguments, {"default"}));
  const Value fallback = bound[0].is_undefined() ? Value(0.0) : bound[0];
  if (input.is_undefined()) return absl::InvalidArgumentError(input.UndefinedMessage());
  if (input.is_number()) return Value(input.number());
  double number = 0;
  return input.string() != nullptr && ParseFloat(*input.string(), number) ? Value(number) : fallback;
}

absl::StatusOr<Value> RoundFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("round", arguments, {"precision", "method"}));
  BERTH_ASSIGN_OR_RETURN(const int64_t precision, IntegerArgument("round: the precision", bound[0], 0));
  BERTH_ASSIGN_OR_RETURN(const std::string method, StringArgument("round: the method", bound[1], "common"));
  if (!input.is_number())
    return absl::InvalidArgumentError(Cat("round: a value of type ", input.TypeName(), " is not a number"));
  if (precision < 0 || precision > 300)
    return absl::InvalidArgumentError(Cat("round: a precision of ", precision, " is not supported"));
  if (method == "ceil" || method == "floor") {
    const double scale = std::pow(10.0, static_cast<double>(precision)), scaled = input.number() * scale;
    return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (method != "common") return absl::InvalidArgumentError(Cat("round: there is no method '", method, "'"));
  if (input.is_integral()) return Value(input.integer());
  double number = input.number();
  // The digits, not the scaled number, decide a tie, as in Python.
  if (std::isfinite(number))
    number = std::strtod(absl::StrFormat("%.*f", static_cast<int>(precision), number).c_str(), nullptr);
  return Value(number);
}

// Filters of any value.

absl::StatusOr<Value> DefaultFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("default", arguments, {"default_value", "boolean"}));
  const bool replace = input.is_undefined() || (bound[1].Truthy() && !input.Truthy());
  if (!replace) return input;
  return arguments.positional.empty() && bound[0].is_undefined() ? Value("") : bound[0];
}

absl::StatusOr<Value> LengthFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("length", arguments, {}); !bound.ok()) return bound.status();
  BERTH_RETURN_IF_ERROR(runtime.Charge(input.string() != nullptr ? input.weight() : 1));
  BERTH_ASSIGN_OR_RETURN(const int64_t length, Length(input));
  return Value(length);
}

constexpr FilterEntry kFilters[] = {
    {"abs", AbsFilter},
    {"capitalize", MapText<Capitalize>},
    {"count", LengthFilter},
    {"d", DefaultFilter},
    {"default", DefaultFilter},
    {"float", FloatFilter},
    {"indent", IndentFilter},
    {"int", IntFilter},
    {"length", LengthFilter},
    {"lower", MapText<Lower>},
    {"replace", ReplaceFilter},
    {"round", RoundFilter},
    {"safe", MapText<Same>},
    {"string", MapText<Same>},
    {"title", MapText<TitleWords>},
    {"tojson", ToJsonFilter},
    {"trim", TrimFilter},
    {"upper", MapText<Upper>},
};

}  // namespace

absl::Span<const FilterEntry> ScalarFilters() { return kFilters; }

}  // namespace berth::text::jinja
