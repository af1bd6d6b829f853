#include <string>

#include "base/status.h"
#include "worker/text/jinja/arguments.h"
#include "worker/text/jinja/builtins.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/operators.h"
#include "worker/text/jinja/unicode.h"

namespace berth::text::jinja {
namespace {

using Predicate = bool (*)(const Value& value);

// A test without arguments.
template <Predicate predicate>
absl::StatusOr<bool> Plain(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("the test", arguments, {}); !bound.ok()) return bound.status();
  return predicate(input);
}

// A comparison with one argument; `op` is an operator of CompareWith.
template <const char* op>
absl::StatusOr<bool> Comparison(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("the test", arguments, {"other!"}));
  return CompareWith(runtime, op, input, bound[0]);
}

constexpr char kEq[] = "==", kNe[] = "!=", kLt[] = "<", kLe[] = "<=", kGt[] = ">", kGe[] = ">=", kIn[] = "in";

absl::StatusOr<bool> Remainder(Runtime& runtime, const Value& input, int64_t divisor, int64_t want) {
  BERTH_ASSIGN_OR_RETURN(const Value remainder, Arithmetic(runtime, "%", input, Value(divisor)));
  return remainder.number() == static_cast<double>(want);
}

template <int want>
absl::StatusOr<bool> Parity(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("the test", arguments, {}); !bound.ok()) return bound.status();
  return Remainder(runtime, input, 2, want);
}

absl::StatusOr<bool> DivisibleBy(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("divisibleby", arguments, {"num!"}));
  BERTH_ASSIGN_OR_RETURN(const int64_t divisor, IntegerArgument("divisibleby", bound[0], 0));
  return Remainder(runtime, input, divisor, 0);
}

absl::StatusOr<bool> SameAs(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("sameas", arguments, {"other!"}));
  return input.TypeName() == bound[0].TypeName() && CompareWith(runtime, "==", input, bound[0]).value_or(false);
}

// Some character has a case, and every one that has is as `map` makes it.
bool AllCased(const Value& value, std::string (*map)(std::string_view)) {
  if (value.string() == nullptr) return false;
  const std::string& text = *value.string();
  return map(text) == text && Upper(text) != Lower(text);
}

bool IsSequence(const Value& v) {
  return v.is_undefined() || v.string() || v.dict() || (v.list() && v.list()->kind != ListKind::kIterator);
}

struct Entry {
  std::string_view name;
  Test test;
};

constexpr Entry kTests[] = {
    {"boolean", Plain<[](const Value& v) { return v.is_bool(); }>},
    {"callable", Plain<[](const Value& v) { return v.is_callable(); }>},
    {"defined", Plain<[](const Value& v) { return !v.is_undefined(); }>},
    {"false", Plain<[](const Value& v) { return v.is_bool() && !v.Truthy(); }>},
    {"float", Plain<[](const Value& v) { return v.is_float(); }>},
    {"integer", Plain<[](const Value& v) { return v.is_int(); }>},
    {"iterable", Plain<[](const Value& v) { return IsSequence(v) || v.list() || v.loop(); }>},
    {"lower", Plain<[](const Value& v) { return AllCased(v, Lower); }>},
    {"mapping", Plain<[](const Value& v) { return v.dict() != nullptr; }>},
    {"none", Plain<[](const Value& v) { return v.is_none(); }>},
    {"number", Plain<[](const Value& v) { return v.is_number(); }>},
    {"sequence", Plain<IsSequence>},
    {"string", Plain<[](const Value& v) { return v.is_string(); }>},
    {"true", Plain<[](const Value& v) { return v.is_bool() && v.Truthy(); }>},
    {"undefined", Plain<[](const Value& v) { return v.is_undefined(); }>},
    {"upper", Plain<[](const Value& v) { return AllCased(v, Upper); }>},
    {"divisibleby", DivisibleBy},
    {"even", Parity<0>},
    {"odd", Parity<1>},
    {"sameas", SameAs},
    {"eq", Comparison<kEq>},
    {"equalto", Comparison<kEq>},
    {"==", Comparison<kEq>},
    {"ne", Comparison<kNe>},
    {"!=", Comparison<kNe>},
    {"lt", Comparison<kLt>},
    {"lessthan", Comparison<kLt>},
    {"<", Comparison<kLt>},
    {"le", Comparison<kLe>},
    {"<=", Comparison<kLe>},
    {"gt", Comparison<kGt>},
    {"greaterthan", Comparison<kGt>},
    {">", Comparison<kGt>},
    {"ge", Comparison<kGe>},
    {">=", Comparison<kGe>},
    {"in", Comparison<kIn>},
};

}  // namespace

Test FindTest(std::string_view name) {
  for (const Entry& entry : kTests) {
    if (entry.name == name) return entry.test;
  }
  return nullptr;
}

}  // namespace berth::text::jinja
