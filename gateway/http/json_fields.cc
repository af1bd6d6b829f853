#include "gateway/http/json_fields.h"

#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/json_scan.h"
#include "base/status.h"
#include "gateway/http/json_text.h"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

bool FitsInt64(const json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  return value.is_number_integer();
}

// A value as an error tells it: its text, or its beginning; of what holds others, its type.
std::string Shown(const json& value) {
  constexpr size_t kMaxShownBytes = 32;
  if (value.is_structured()) return value.type_name();
  if (!value.is_string()) return value.dump();
  const std::string& text = value.get_ref<const std::string&>();
  if (text.size() <= kMaxShownBytes) return Dump(value);
  return absl::StrCat(Dump(text.substr(0, kMaxShownBytes)), "…");
}

}  // namespace

const json* JsonFields::Find(const char* name) {
  read_.insert(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::vector<std::string> JsonFields::Unread(size_t most) const {
  constexpr size_t kMaxNameBytes = 64;
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items()) {
    if (names.size() == most) break;
    if (read_.contains(name) || refused_.contains(name)) continue;
    std::string plain = name.substr(0, kMaxNameBytes);
    for (char& c : plain) {
      if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-' && c != '.') c = '?';
    }
    names.push_back(std::move(plain));
  }
  return names;
}

void JsonFields::Fail(const std::string& name, const std::string& description) {
  if (status_.ok()) status_ = rpc::FieldError(PathOf(name), description);
}

void JsonFields::Refuse(const char* name, const std::string& why) {
  refused_.insert(name);
  if (object_.contains(name) && !object_[name].is_null()) Fail(name, why);
}

void JsonFields::WrongType(const std::string& name, const char* expected, const json& value) {
  Fail(name, absl::StrCat("must be ", expected, ", not ", Shown(value)));
}

void JsonFields::EachObject(const char* name, const json& array, absl::FunctionRef<void(JsonFields& entry)> read) {
  for (size_t i = 0; i < array.size(); ++i) {
    const std::string path = absl::StrCat(name, "[", i, "]");
    if (!array[i].is_object()) return WrongType(path, "an object", array[i]);
    JsonFields entry(array[i], PathOf(path));
    read(entry);
    Take(entry);
  }
}

std::optional<bool> JsonFields::Bool(const char* name) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  WrongType(name, "a boolean", *value);
  return std::nullopt;
}

std::optional<int64_t> JsonFields::Int64(const char* name) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (FitsInt64(*value)) return value->get<int64_t>();
  if (value->is_number_integer()) {
    Fail(name, absl::StrCat("is ", value->dump(), ", which is out of range"));
  } else {
    WrongType(name, "an integer", *value);
  }
  return std::nullopt;
}

std::optional<int32_t> JsonFields::Int32(const char* name, int32_t least, int32_t most) {
  const std::optional<int64_t> value = Int64(name);
  if (!value.has_value()) return std::nullopt;
  if (*value >= least && *value <= most) return static_cast<int32_t>(*value);
  Fail(name, absl::StrCat("is ", *value, ", want ", least, " … ", most));
  return std::nullopt;
}

std::optional<float> JsonFields::Float(const char* name) {
  const json* value = Find(name);
  return value == nullptr ? std::nullopt : Float(name, *value);
}

std::optional<float> JsonFields::Float(const std::string& name, const json& value) {
  if (!value.is_number()) {
    WrongType(name, "a number", value);
    return std::nullopt;
  }
  const float number = static_cast<float>(value.get<double>());
  if (std::isfinite(number)) return number;
  Fail(name, absl::StrCat("is ", value.dump(), ", which is out of range"));
  return std::nullopt;
}

std::optional<std::string> JsonFields::String(const char* name) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  WrongType(name, "a string", *value);
  return std::nullopt;
}

const json* JsonFields::Array(const char* name) {
  const json* value = Find(name);
  if (value == nullptr || value->is_array()) return value;
  WrongType(name, "an array", *value);
  return nullptr;
}

const json* JsonFields::Object(const char* name) {
  const json* value = Find(name);
  if (value == nullptr || value->is_object()) return value;
  WrongType(name, "an object", *value);
  return nullptr;
}

std::vector<std::string> JsonFields::Strings(const char* name) {
  const json* value = Find(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  std::vector<std::string> strings;
  if (!value->is_array()) WrongType(name, "a string or an array of strings", *value);
  for (size_t i = 0; value->is_array() && i < value->size(); ++i) {
    if ((*value)[i].is_string()) {
      strings.push_back((*value)[i].get<std::string>());
    } else {
      WrongType(absl::StrCat(name, "[", i, "]"), "a string", (*value)[i]);
    }
  }
  return strings;
}

std::vector<int32_t> JsonFields::Int32s(const char* name) {
  const json* value = Array(name);
  std::vector<int32_t> numbers;
  for (size_t i = 0; value != nullptr && i < value->size(); ++i) {
    const json& number = (*value)[i];
    if (FitsInt64(number) && number.get<int64_t>() == static_cast<int32_t>(number.get<int64_t>())) {
      numbers.push_back(number.get<int32_t>());
    } else {
      WrongType(absl::StrCat(name, "[", i, "]"), "a 32-bit integer", number);
    }
  }
  return numbers;
}

absl::StatusOr<json> ParseObject(std::string_view text) {
  BERTH_RETURN_IF_ERROR(base::CheckJson(text, "the body"));
  json body;
  try {
    body = json::parse(text);
  } catch (const json::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrCat("the body is not valid JSON: the mistake is at byte ", error.byte));
  } catch (const json::out_of_range&) {
    return absl::InvalidArgumentError("the body is not valid JSON: a number in it is out of range");
  }
  if (!body.is_object())
    return absl::InvalidArgumentError(absl::StrCat("the body must be a JSON object, not ", body.type_name()));
  return body;
}

}  // namespace berth::http
