#include "worker/loader/json_fields.h"

#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace berth::loader {

using nlohmann::json;

absl::StatusOr<JsonFields> JsonFields::Of(const json& value, std::string path) {
  if (!value.is_object()) return absl::InvalidArgumentError(absl::StrFormat("%s is not an object", path));
  return JsonFields(value, std::move(path));
}

const json* JsonFields::Find(std::string_view key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<std::string> JsonFields::String(std::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr || !value->is_string()) return Error(key, "is not a string");
  return *value->get_ptr<const std::string*>();
}

absl::StatusOr<int32_t> JsonFields::Int(std::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr || !value->is_number_integer()) return Error(key, "is not an integer");
  const bool fits = value->is_number_unsigned() ? value->get<uint64_t>() <= std::numeric_limits<int32_t>::max()
                                                : value->get<int64_t>() >= std::numeric_limits<int32_t>::min();
  if (!fits) return Error(key, "does not fit in 32 bits");
  return value->get<int32_t>();
}

absl::StatusOr<const json*> JsonFields::Array(std::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr || !value->is_array()) return Error(key, "is not an array");
  return value;
}

absl::StatusOr<JsonFields> JsonFields::Object(std::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr || !value->is_object()) return Error(key, "is not an object");
  return JsonFields(*value, PathOf(key));
}

absl::StatusOr<std::string> JsonFields::StringOr(std::string_view key, std::string fallback) const {
  if (Find(key) == nullptr) return fallback;
  return String(key);
}

absl::StatusOr<bool> JsonFields::BoolOr(std::string_view key, bool fallback) const {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Error(key, "is not a boolean");
  return value->get<bool>();
}

std::string JsonFields::PathOf(std::string_view key) const { return absl::StrFormat("%s.%s", path_, key); }

absl::Status JsonFields::Error(std::string_view key, std::string_view problem) const {
  return absl::InvalidArgumentError(absl::StrFormat("%s.%s %s", path_, key, problem));
}

}  // namespace berth::loader
