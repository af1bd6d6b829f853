#include "worker/model/hf_config.h"

#include <limits>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

namespace berth::model {
namespace {

using Json = nlohmann::json;

// Deeper objects are hostile, not configurations.
constexpr int kMaxDepth = 16;

std::optional<HfConfig::Scalar> ToScalar(const Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return json.get<double>();
  }
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number_float()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  return std::nullopt;
}

absl::Status Flatten(const Json& object, const std::string& prefix, int depth, HfConfig& out) {
  if (depth > kMaxDepth) return absl::InvalidArgumentError(absl::StrCat(prefix, " is nested too deeply"));
  for (const auto& [key, value] : object.items()) {
    if (absl::StrContains(key, '.')) continue;  // nobody reads one, and its place would be a nested field's
    const std::string name = absl::StrCat(prefix, key);
    if (value.is_object()) {
      if (absl::Status status = Flatten(value, name + ".", depth + 1, out); !status.ok()) return status;
    } else if (value.is_array()) {
      std::vector<HfConfig::Scalar> scalars;
      for (const Json& element : value) {
        if (std::optional<HfConfig::Scalar> scalar = ToScalar(element)) scalars.push_back(*std::move(scalar));
      }
      if (scalars.size() == value.size()) out.SetList(name, std::move(scalars));
    } else if (value.is_null()) {
      out.SetNull(name);
    } else if (std::optional<HfConfig::Scalar> scalar = ToScalar(value)) {
      out.Set(name, *std::move(scalar));
    }
  }
  return absl::OkStatus();
}

std::string ToText(const HfConfig::Scalar& scalar) {
  struct Visitor {
    std::string operator()(bool value) const { return value ? "true" : "false"; }
    std::string operator()(int64_t value) const { return absl::StrCat(value); }
    std::string operator()(double value) const { return absl::StrCat(value); }
    std::string operator()(const std::string& value) const { return absl::StrCat("\"", value, "\""); }
  };
  return std::visit(Visitor{}, scalar);
}

std::string ToText(const HfConfig::Field& field) {
  if (!field.is_list) return ToText(field.values.front());
  return absl::StrCat(
      "[",
      absl::StrJoin(field.values, ", ", [](std::string* out, const HfConfig::Scalar& scalar) { out->append(ToText(scalar)); }),
      "]");
}

template <typename T>
std::optional<T> As(const HfConfig::Scalar& scalar) {
  if (const T* value = std::get_if<T>(&scalar)) return *value;
  if constexpr (std::is_same_v<T, double>) {
    if (const int64_t* value = std::get_if<int64_t>(&scalar)) return static_cast<double>(*value);
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<HfConfig> HfConfig::Parse(std::string_view json) {
  const Json parsed = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::InvalidArgumentError("not valid JSON");
  if (!parsed.is_object()) return absl::InvalidArgumentError("not a JSON object");
  HfConfig config;
  if (absl::Status status = Flatten(parsed, "", 0, config); !status.ok()) return status;
  return config;
}

std::string HfConfig::ToJson() const {
  const auto scalar = [](const Scalar& value) { return std::visit([](const auto& held) { return Json(held); }, value); };
  Json root = Json::object();
  for (const auto& [name, field] : fields_) {
    Json* place = &root;
    const std::vector<std::string> path = absl::StrSplit(name, '.');
    for (const std::string& key : path) place = &(*place)[key];
    if (!field.is_list) {
      *place = scalar(field.values.front());
      continue;
    }
    *place = Json::array();
    for (const Scalar& value : field.values) place->push_back(scalar(value));
  }
  return root.dump(2);
}

bool HfConfig::Has(std::string_view name) const {
  if (fields_.find(name) != fields_.end()) return true;
  const std::string prefix = std::string(name) + ".";
  const auto it = fields_.lower_bound(prefix);
  return it != fields_.end() && it->first.starts_with(prefix);
}

absl::Status HfConfig::Error(std::string_view name, std::string_view problem, absl::StatusCode code) const {
  const auto it = fields_.find(name);
  return absl::Status(code,
                      absl::StrFormat("%s is %s: %s", name, it == fields_.end() ? "absent" : ToText(it->second), problem));
}

template <typename T>
absl::StatusOr<T> HfConfig::One(std::string_view name, std::string_view type) const {
  const auto it = fields_.find(name);
  if (it != fields_.end() && !it->second.is_list) {
    if (std::optional<T> value = As<T>(it->second.values.front())) return *std::move(value);
  }
  return Error(name, absl::StrFormat("want %s", type));
}

template <typename T>
absl::StatusOr<std::vector<T>> HfConfig::Many(std::string_view name, std::string_view type) const {
  std::vector<T> values;
  const auto it = fields_.find(name);
  if (it == fields_.end()) return values;
  for (const Scalar& scalar : it->second.values) {
    std::optional<T> value = As<T>(scalar);
    if (!value) return Error(name, absl::StrFormat("want %s", type));
    values.push_back(*std::move(value));
  }
  return values;
}

absl::StatusOr<int64_t> HfConfig::Int(std::string_view name) const { return One<int64_t>(name, "an integer"); }
absl::StatusOr<double> HfConfig::Float(std::string_view name) const { return One<double>(name, "a number"); }
absl::StatusOr<bool> HfConfig::Bool(std::string_view name) const { return One<bool>(name, "true or false"); }
absl::StatusOr<std::string> HfConfig::String(std::string_view name) const { return One<std::string>(name, "a string"); }

absl::StatusOr<int64_t> HfConfig::IntOr(std::string_view name, int64_t absent) const { return Has(name) ? Int(name) : absent; }
absl::StatusOr<double> HfConfig::FloatOr(std::string_view name, double absent) const {
  return Has(name) ? Float(name) : absent;
}
absl::StatusOr<bool> HfConfig::BoolOr(std::string_view name, bool absent) const { return Has(name) ? Bool(name) : absent; }
absl::StatusOr<std::string> HfConfig::StringOr(std::string_view name, std::string absent) const {
  return Has(name) ? String(name) : absent;
}

absl::StatusOr<std::vector<int64_t>> HfConfig::Ints(std::string_view name) const {
  return Many<int64_t>(name, "an integer or a list of integers");
}
absl::StatusOr<std::vector<double>> HfConfig::Floats(std::string_view name) const {
  return Many<double>(name, "a number or a list of numbers");
}
absl::StatusOr<std::vector<std::string>> HfConfig::Strings(std::string_view name) const {
  return Many<std::string>(name, "a string or a list of strings");
}

}  // namespace berth::model
