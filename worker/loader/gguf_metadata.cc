#include "worker/loader/gguf_metadata.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace berth::loader {
namespace {

std::string ToText(const GgufMetadata::Value& value) {
  struct Visitor {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(int64_t v) const { return absl::StrCat(v); }
    std::string operator()(double v) const { return absl::StrCat(v); }
    std::string operator()(const std::string& v) const { return absl::StrCat("\"", v, "\""); }
    std::string operator()(const std::vector<int64_t>& v) const { return absl::StrCat("an array of ", v.size(), " integers"); }
    std::string operator()(const std::vector<double>& v) const { return absl::StrCat("an array of ", v.size(), " floats"); }
    std::string operator()(const std::vector<std::string>& v) const {
      return absl::StrCat("an array of ", v.size(), " strings");
    }
  };
  return std::visit(Visitor{}, value);
}

}  // namespace

absl::Status GgufMetadata::Error(std::string_view key, std::string_view problem, absl::StatusCode code) const {
  const auto it = values_.find(key);
  return absl::Status(code, absl::StrFormat("%s is %s: %s", key, it == values_.end() ? "absent" : ToText(it->second), problem));
}

template <typename T>
absl::StatusOr<T> GgufMetadata::Require(std::string_view key, std::string_view type) const {
  if (const T* value = Find<T>(key)) return *value;
  return Error(key, absl::StrFormat("want %s", type));
}

absl::StatusOr<int64_t> GgufMetadata::Int(std::string_view key) const { return Require<int64_t>(key, "an integer"); }
absl::StatusOr<double> GgufMetadata::Float(std::string_view key) const { return Require<double>(key, "a float"); }
absl::StatusOr<bool> GgufMetadata::Bool(std::string_view key) const { return Require<bool>(key, "a bool"); }
absl::StatusOr<std::string> GgufMetadata::String(std::string_view key) const { return Require<std::string>(key, "a string"); }

}  // namespace berth::loader
