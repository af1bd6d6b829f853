#include "worker/text/jinja/arguments.h"

#include <algorithm>

#include "worker/text/jinja/cat.h"

namespace berth::text::jinja {
namespace {

std::string_view WithoutMark(std::string_view name) { return name.ends_with('!') ? name.substr(0, name.size() - 1) : name; }

}  // namespace

absl::StatusOr<std::vector<Value>> Bind(std::string_view function, const Arguments& arguments,
                                        std::initializer_list<std::string_view> names) {
  if (arguments.positional.size() > names.size()) {
    return absl::InvalidArgumentError(
        Cat(function, " takes at most ", names.size(), " arguments, not ", arguments.positional.size()));
  }
  std::vector<Value> values = arguments.positional;
  std::vector<bool> given(values.size(), true);
  values.resize(names.size());
  given.resize(names.size(), false);
  for (const auto& [name, value] : arguments.named) {
    const auto* found =
        std::find_if(names.begin(), names.end(), [&name = name](std::string_view n) { return WithoutMark(n) == name; });
    if (found == names.end()) return absl::InvalidArgumentError(Cat(function, " has no argument '", name, "'"));
    const size_t index = found - names.begin();
    if (given[index]) return absl::InvalidArgumentError(Cat(function, " got its argument '", name, "' twice"));
    given[index] = true;
    values[index] = value;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string_view name = names.begin()[i];
    if (!given[i] && name.ends_with('!')) {
      return absl::InvalidArgumentError(Cat(function, " misses its argument '", WithoutMark(name), "'"));
    }
  }
  return values;
}

absl::StatusOr<int64_t> IntegerArgument(std::string_view what, const Value& value, int64_t fallback) {
  if (value.is_undefined() || value.is_none()) return fallback;
  if (value.is_integral()) return value.integer();
  return absl::InvalidArgumentError(Cat(what, " is of type ", value.TypeName(), ", not an integer"));
}

absl::StatusOr<std::string> StringArgument(std::string_view what, const Value& value, std::string fallback) {
  if (value.is_undefined() || value.is_none()) return fallback;
  if (value.string() != nullptr) return *value.string();
  return absl::InvalidArgumentError(Cat(what, " is of type ", value.TypeName(), ", not a string"));
}

}  // namespace berth::text::jinja
