#include "worker/text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/unicode.h"

namespace berth::text::jinja {
namespace {

absl::Status Unsupported(std::string_view op, const Value& left, const Value& right) {
  if (left.is_undefined()) return absl::InvalidArgumentError(left.UndefinedMessage());
  if (right.is_undefined()) return absl::InvalidArgumentError(right.UndefinedMessage());
  return absl::InvalidArgumentError(
      Cat("unsupported operand types for ", op, ": '", left.TypeName(), "' and '", right.TypeName(), "'"));
}

absl::Status Overflow(std::string_view op) {
  return absl::InvalidArgumentError(Cat("the result of ", op, " is beyond 64 bits"));
}

int64_t FloorDivide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

absl::StatusOr<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return absl::InvalidArgumentError("0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value(exponent == 0 ? int64_t{1} : base);
  if (base == -1) return Value(exponent % 2 == 0 ? int64_t{1} : int64_t{-1});
  int64_t result = 1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) return Overflow("**");
  }
  return Value(result);
}

absl::StatusOr<Value> IntegerArithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+") return __builtin_add_overflow(a, b, &result) ? Overflow(op) : absl::StatusOr<Value>(result);
  if (op == "-") return __builtin_sub_overflow(a, b, &result) ? Overflow(op) : absl::StatusOr<Value>(result);
  if (op == "*") return __builtin_mul_overflow(a, b, &result) ? Overflow(op) : absl::StatusOr<Value>(result);
  if (op == "**") return IntegerPower(a, b);
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) return op == "%" ? absl::StatusOr<Value>(int64_t{0}) : IntegerArithmetic("-", 0, a);
  if (op == "//") return Value(FloorDivide(a, b));
  return Value(a - FloorDivide(a, b) * b);
}

absl::StatusOr<Value> FloatArithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") {
    const double power = std::pow(a, b);
    if (!std::isfinite(power) && std::isfinite(a) && std::isfinite(b))
      return absl::InvalidArgumentError("the result of ** is no float");
    if (std::isnan(power) && !std::isnan(a) && !std::isnan(b))
      return absl::InvalidArgumentError("the result of ** is no float");
    return Value(power);
  }
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return Value(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == "%") return Value(remainder);
  return Value(std::round((a - remainder) / b));
}

absl::StatusOr<Value> Repeat(Runtime& runtime, const Value& value, int64_t times) {
  times = std::max<int64_t>(times, 0);
  if (times > static_cast<int64_t>(kMaxText)) return absl::ResourceExhaustedError("a value is repeated too often");
  const size_t once = value.list() != nullptr ? value.list()->items.size() * kItemWork : value.weight();
  BERTH_RETURN_IF_ERROR(runtime.Charge(once * times));
  if (value.string() != nullptr) {
    std::string text;
    for (int64_t i = 0; i < times; ++i) text += *value.string();
    return Value(std::move(text));
  }
  std::vector<Value> items;
  for (int64_t i = 0; i < times; ++i) items.insert(items.end(), value.list()->items.begin(), value.list()->items.end());
  return MakeList(std::move(items), value.list()->kind);
}

bool Repeatable(const Value& value) {
  return value.string() != nullptr || (value.list() != nullptr && value.list()->kind != ListKind::kIterator);
}

absl::Status NoAttribute(const Value& value, std::string_view name) {
  return absl::InvalidArgumentError(value.UndefinedMessage());
}

Value Missing(const Value& value, const Value& key) {
  const std::string name = key.string() != nullptr ? Cat("'", *key.string(), "'") : key.is_int() ? Cat(key.integer()) : "";
  if (value.is_none()) return Value::UndefinedBecause(Cat("'None' has no attribute ", name));
  const std::string_view what = key.string() != nullptr ? "attribute" : "element";
  return Value::UndefinedBecause(Cat("'", value.TypeName(), " object' has no ", what, " ", name));
}

absl::StatusOr<Value> LoopAttribute(const Loop& loop, const std::string& name) {
  const auto size = static_cast<int64_t>(loop.items.size()), index = static_cast<int64_t>(loop.index);
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(size - index);
  if (name == "revindex0") return Value(size - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == size);
  if (name == "length") return Value(size);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem") return index > 0 ? loop.items[index - 1] : Value::UndefinedBecause("there is no previous item");
  if (name == "nextitem") return index + 1 < size ? loop.items[index + 1] : Value::UndefinedBecause("there is no next item");
  if (name == "changed") return absl::InvalidArgumentError("loop.changed is not supported");
  return Value::UndefinedBecause(Cat("'loop' has no attribute '", name, "'"));
}

}  // namespace

absl::StatusOr<Value> Arithmetic(Runtime& runtime, std::string_view op, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) return IntegerArithmetic(op, left.integer(), right.integer());
  if (left.is_number() && right.is_number()) return FloatArithmetic(op, left.number(), right.number());
  if (op == "+" && left.string() != nullptr && right.string() != nullptr) {
    BERTH_RETURN_IF_ERROR(runtime.Charge(left.weight() + right.weight()));
    return Value(*left.string() + *right.string());
  }
  if (op == "+" && left.list() != nullptr && right.list() != nullptr && left.list()->kind == right.list()->kind &&
      Repeatable(left)) {
    BERTH_RETURN_IF_ERROR(runtime.Charge((left.list()->items.size() + right.list()->items.size()) * kItemWork));
    std::vector<Value> items = left.list()->items;
    items.insert(items.end(), right.list()->items.begin(), right.list()->items.end());
    return MakeList(std::move(items), left.list()->kind);
  }
  if (op == "*" && Repeatable(left) && right.is_integral()) return Repeat(runtime, left, right.integer());
  if (op == "*" && left.is_integral() && Repeatable(right)) return Repeat(runtime, right, left.integer());
  if (op == "%" && left.string() != nullptr) return absl::InvalidArgumentError("formatting a string with % is not supported");
  return Unsupported(op, left, right);
}

absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item) {
  BERTH_RETURN_IF_ERROR(runtime.Charge(container.dict() != nullptr ? item.weight() : container.weight()));
  if (container.is_undefined()) return false;
  if (container.string() != nullptr) {
    if (item.string() == nullptr) return Unsupported("in", item, container);
    return container.string()->find(*item.string()) != std::string::npos;
  }
  if (container.list() != nullptr) {
    const auto& items = container.list()->items;
    return std::any_of(items.begin(), items.end(), [&](const Value& other) { return Equal(item, other); });
  }
  if (container.dict() != nullptr) return container.dict()->Find(item) != nullptr;
  return Unsupported("in", item, container);
}

absl::StatusOr<bool> CompareWith(Runtime& runtime, std::string_view op, const Value& left, const Value& right) {
  if (op == "in") return Contains(runtime, right, left);
  if (op == "not in") {
    BERTH_ASSIGN_OR_RETURN(const bool contains, Contains(runtime, right, left));
    return !contains;
  }
  BERTH_RETURN_IF_ERROR(runtime.Charge(std::min(left.weight(), right.weight())));
  if (op == "==") return Equal(left, right);
  if (op == "!=") return !Equal(left, right);
  if (left.is_number() && right.is_number() && (std::isnan(left.number()) || std::isnan(right.number()))) return false;
  BERTH_ASSIGN_OR_RETURN(const int order, Compare(left, right));
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  return op == ">" ? order > 0 : order >= 0;
}

absl::StatusOr<Value> GetAttribute(const Value& value, const std::string& name) {
  if (value.is_undefined()) return NoAttribute(value, name);
  if (value.loop() != nullptr && name != "cycle") return LoopAttribute(*value.loop(), name);
  if (value.name_space() != nullptr) {
    const auto found = value.name_space()->attributes.find(name);
    return found != value.name_space()->attributes.end() ? found->second : Missing(value, Value(name));
  }
  BERTH_ASSIGN_OR_RETURN(const bool method, HasMethod(value, name));
  if (method) return Value(std::make_shared<const BoundMethod>(BoundMethod{value, name}));
  if (value.dict() != nullptr) {
    if (const Value* found = value.dict()->Find(Value(name))) return *found;
  }
  return Missing(value, Value(name));
}

absl::StatusOr<Value> GetItem(const Value& value, const Value& key) {
  if (value.is_undefined()) return NoAttribute(value, "");
  if (value.dict() != nullptr) {
    if (const Value* found = value.dict()->Find(key)) return *found;
  }
  if (key.is_integral() &&
      (value.string() != nullptr || (value.list() != nullptr && value.list()->kind != ListKind::kIterator))) {
    BERTH_ASSIGN_OR_RETURN(const int64_t length, Length(value));
    const int64_t index = key.integer() < 0 ? key.integer() + length : key.integer();
    if (index < 0 || index >= length) return Missing(value, key);
    return value.list() != nullptr ? value.list()->items[index] : Value(CodePoints(*value.string())[index]);
  }
  if (key.string() != nullptr) return GetAttribute(value, *key.string());
  return Missing(value, key);
}

absl::StatusOr<Value> GetSlice(Runtime& runtime, const Value& value, const Value& from, const Value& to, const Value& step) {
  if (value.is_undefined()) return NoAttribute(value, "");
  if (!Repeatable(value)) return Missing(value, Value(None{}));
  for (const Value* bound : {&from, &to, &step}) {
    if (!bound->is_undefined() && !bound->is_none() && !bound->is_integral()) {
      return absl::InvalidArgumentError(Cat("a slice bound is of type ", bound->TypeName(), ", not an integer"));
    }
  }
  const auto bound_or = [](const Value& bound, int64_t fallback) { return bound.is_integral() ? bound.integer() : fallback; };
  const int64_t stride = bound_or(step, 1);
  if (stride == 0) return absl::InvalidArgumentError("a slice step is zero");
  std::vector<std::string_view> characters;
  if (value.string() != nullptr) characters = CodePoints(*value.string());
  const auto length = static_cast<int64_t>(value.string() != nullptr ? characters.size() : value.list()->items.size());
  const int64_t lowest = stride > 0 ? 0 : -1, highest = stride > 0 ? length : length - 1;
  const auto clamp = [&](int64_t index) { return std::clamp(index < 0 ? index + length : index, lowest, highest); };
  const int64_t first = from.is_integral() ? clamp(from.integer()) : stride > 0 ? 0 : length - 1;
  const int64_t last = to.is_integral() ? clamp(to.integer()) : stride > 0 ? length : -1;
  BERTH_RETURN_IF_ERROR(runtime.Charge(value.list() != nullptr ? length * kItemWork : length));
  std::string text;
  std::vector<Value> items;
  for (int64_t i = first; stride > 0 ? i < last : i > last;) {
    if (value.string() != nullptr) {
      text += characters[i];
    } else {
      items.push_back(value.list()->items[i]);
    }
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  if (value.string() != nullptr) return Value(std::move(text));
  return MakeList(std::move(items), value.list()->kind);
}

absl::StatusOr<std::vector<Value>> Iterate(Runtime& runtime, const Value& value) {
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (value.list() != nullptr) {
    items = value.list()->items;
  } else if (value.string() != nullptr) {
    for (std::string_view one : CodePoints(*value.string())) items.emplace_back(one);
  } else if (value.dict() != nullptr) {
    for (const auto& [key, unused] : value.dict()->items) items.push_back(key);
  } else {
    return absl::InvalidArgumentError(Cat("a value of type ", value.TypeName(), " cannot be iterated"));
  }
  BERTH_RETURN_IF_ERROR(runtime.Charge(items.size() * kItemWork));
  return items;
}

absl::StatusOr<int64_t> Length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.string() != nullptr) return static_cast<int64_t>(CodePointCount(*value.string()));
  if (value.list() != nullptr && value.list()->kind != ListKind::kIterator)
    return static_cast<int64_t>(value.list()->items.size());
  if (value.dict() != nullptr) return static_cast<int64_t>(value.dict()->items.size());
  if (value.loop() != nullptr) return static_cast<int64_t>(value.loop()->items.size());
  return absl::InvalidArgumentError(Cat("a value of type ", value.TypeName(), " has no length"));
}

absl::StatusOr<std::string> Text(Runtime& runtime, const Value& value) {
  BERTH_RETURN_IF_ERROR(runtime.Charge(value.weight()));
  return ToText(value);
}

}  // namespace berth::text::jinja
