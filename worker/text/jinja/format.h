#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "worker/text/jinja/value.h"

namespace berth::text::jinja {

// Texts of values. RESOURCE_EXHAUSTED when one grows past kMaxText.
inline constexpr size_t kMaxText = size_t{16} << 20;

// Python's str(): what printing a value gives. INVALID_ARGUMENT for values with no text of their own (functions, namespaces,
// …).
absl::StatusOr<std::string> ToText(const Value& value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool multi_line = false;  // one item per line, indented by `indent` per level
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// Python's json.dumps().
absl::StatusOr<std::string> ToJson(const Value& value, const JsonStyle& style);

// INVALID_ARGUMENT for strings that are not UTF-8 and for integers beyond 64 bits, RESOURCE_EXHAUSTED for too deep a value.
absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json);

}  // namespace berth::text::jinja
