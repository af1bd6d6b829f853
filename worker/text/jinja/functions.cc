#include <algorithm>
#include <string>

#include "base/status.h"
#include "worker/text/jinja/arguments.h"
#include "worker/text/jinja/builtins.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/operators.h"

namespace berth::text::jinja {
namespace {

constexpr int64_t kMaxRange = 100000;  // as Jinja's sandbox

absl::StatusOr<Value> Range(Runtime& runtime, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(std::vector<Value> bound, Bind("range", arguments, {"start!", "stop", "step"}));
  for (const Value& value : bound) {
    if (!value.is_undefined() && !value.is_integral()) {
      return absl::InvalidArgumentError(Cat("range: a value of type ", value.TypeName(), " is not an integer"));
    }
  }
  if (bound[0].is_undefined()) return absl::InvalidArgumentError(bound[0].UndefinedMessage());
  if (bound[1].is_undefined()) {
    bound[1] = bound[0];
    bound[0] = Value(int64_t{0});
  }
  const int64_t step = bound[2].is_undefined() ? 1 : bound[2].integer();
  if (step == 0) return absl::InvalidArgumentError("range: the step is zero");
  std::vector<Value> items;
  for (int64_t i = bound[0].integer(); step > 0 ? i < bound[1].integer() : i > bound[1].integer();) {
    if (items.size() == kMaxRange) return absl::ResourceExhaustedError(Cat("range: more than ", kMaxRange, " items"));
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  BERTH_RETURN_IF_ERROR(runtime.Charge(items.size() * kItemWork));
  return MakeList(std::move(items));
}

// dict(mapping or pairs, key=value, …)
absl::StatusOr<Value> MakeDictOf(Runtime& runtime, const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> items;
  if (arguments.positional.size() > 1) return absl::InvalidArgumentError("dict takes at most 1 positional argument");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.dict() != nullptr) {
      items = source.dict()->items;
    } else {
      BERTH_ASSIGN_OR_RETURN(const std::vector<Value> pairs, Iterate(runtime, source));
      for (const Value& pair : pairs) {
        BERTH_ASSIGN_OR_RETURN(std::vector<Value> parts, Iterate(runtime, pair));
        if (parts.size() != 2) return absl::InvalidArgumentError(Cat("dict: an item has ", parts.size(), " parts, not 2"));
        items.emplace_back(std::move(parts[0]), std::move(parts[1]));
      }
    }
  }
  for (const auto& [name, value] : arguments.named) items.emplace_back(Value(name), value);
  BERTH_RETURN_IF_ERROR(runtime.Charge(items.size() * kItemWork));
  return MakeDict(std::move(items));
}

absl::StatusOr<Value> MakeNamespace(Runtime& runtime, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const Value attributes, MakeDictOf(runtime, arguments));
  Namespace* result = runtime.NewNamespace();
  for (const auto& [name, value] : attributes.dict()->items) {
    if (name.string() == nullptr) return absl::InvalidArgumentError("namespace: a name is not a string");
    if (name.string()->starts_with("_")) {
      return absl::InvalidArgumentError(Cat("a namespace cannot hold '", *name.string(), "': it begins with '_'"));
    }
    result->attributes[*name.string()] = value;
  }
  return Value(result);
}

absl::StatusOr<Value> RaiseException(Runtime& runtime, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("raise_exception", arguments, {"message!"}));
  BERTH_ASSIGN_OR_RETURN(const std::string message, Text(runtime, bound[0]));
  return runtime.Raise(message);
}

absl::StatusOr<Value> StrftimeNow(Runtime& runtime, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("strftime_now", arguments, {"format!"}));
  BERTH_ASSIGN_OR_RETURN(const std::string format, StringArgument("strftime_now: the format", bound[0], ""));
  BERTH_ASSIGN_OR_RETURN(std::string text, runtime.FormatNow(format));
  return Value(std::move(text));
}

struct Entry {
  std::string_view name;
  absl::StatusOr<Value> (*function)(Runtime& runtime, const Arguments& arguments);
};

constexpr Entry kFunctions[] = {{"range", Range},
                                {"dict", MakeDictOf},
                                {"namespace", MakeNamespace},
                                {"raise_exception", RaiseException},
                                {"strftime_now", StrftimeNow}};

const Entry* Find(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kFunctions), std::end(kFunctions), [&](const Entry& entry) { return entry.name == name; });
  return found == std::end(kFunctions) ? nullptr : found;
}

}  // namespace

Value FindFunction(std::string_view name) {
  const Entry* entry = Find(name);
  return entry == nullptr ? Value() : Value(Function{entry->name});
}

absl::StatusOr<Value> CallFunction(Runtime& runtime, const Function& function, const Arguments& arguments) {
  return Find(function.name)->function(runtime, arguments);
}

}  // namespace berth::text::jinja
