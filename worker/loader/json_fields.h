#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace berth::loader {

// A JSON object and how to name it in errors ("model.merges[3]"). Every reader returns INVALID_ARGUMENT that names the field
// when its value has another type. A field that is null counts as absent.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string path) : object_(object), path_(std::move(path)) {}

  // INVALID_ARGUMENT when `value` is no object.
  static absl::StatusOr<JsonFields> Of(const nlohmann::json& value, std::string path);

  // Null when absent.
  const nlohmann::json* Find(std::string_view key) const;
  // An error when absent.
  absl::StatusOr<std::string> String(std::string_view key) const;
  absl::StatusOr<int32_t> Int(std::string_view key) const;
  absl::StatusOr<const nlohmann::json*> Array(std::string_view key) const;
  absl::StatusOr<JsonFields> Object(std::string_view key) const;
  // `fallback` when absent.
  absl::StatusOr<std::string> StringOr(std::string_view key, std::string fallback) const;
  absl::StatusOr<bool> BoolOr(std::string_view key, bool fallback) const;

  std::string PathOf(std::string_view key) const;
  absl::Status Error(std::string_view key, std::string_view problem) const;
  const nlohmann::json& object() const { return object_; }

 private:
  const nlohmann::json& object_;
  std::string path_;
};

}  // namespace berth::loader
