#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/jinja/builtins.h"

namespace berth::text::jinja {

// One value per name in `names`, undefined where the call gave none. A name that ends in '!' is required. INVALID_ARGUMENT for
// too many arguments, an unknown or doubled name, or a required one that is missing.
absl::StatusOr<std::vector<Value>> Bind(std::string_view function, const Arguments& arguments,
                                        std::initializer_list<std::string_view> names);

// INVALID_ARGUMENT when the value is of another kind.
absl::StatusOr<int64_t> IntegerArgument(std::string_view what, const Value& value, int64_t fallback);
absl::StatusOr<std::string> StringArgument(std::string_view what, const Value& value, std::string fallback);

}  // namespace berth::text::jinja
