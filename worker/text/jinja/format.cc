#include "worker/text/jinja/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "base/utf8.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/unicode.h"

namespace berth::text::jinja {
namespace {

constexpr int kMaxJsonDepth = 100;

// Python's repr(float): the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto fixed = std::abs(value) >= 1e16 || (value != 0 && std::abs(value) < 1e-4) ? std::chars_format::scientific
                                                                                       : std::chars_format::fixed;
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value, fixed);
  std::string text(buffer, result.ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

void AppendReprString(const std::string& text, std::string& out) {
  const bool double_quotes = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char quote = double_quotes ? '"' : '\'';
  out += quote;
  for (std::string_view one : CodePoints(text)) {
    const char32_t c = ToCodePoint(one);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out.append("\\").append(one);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (IsPrintable(c)) {
      out += one;
    } else if (c < 0x100) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned>(c));
    } else if (c < 0x10000) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned>(c));
    } else {
      absl::StrAppendFormat(&out, "\\U%08x", static_cast<unsigned>(c));
    }
  }
  out += quote;
}

void AppendJsonString(const std::string& text, bool ensure_ascii, std::string& out) {
  out += '"';
  for (std::string_view one : CodePoints(text)) {
    const char32_t c = ToCodePoint(one);
    static constexpr std::pair<char32_t, std::string_view> kShort[] = {
        {'"', "\\\""}, {'\\', "\\\\"}, {'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}, {'\f', "\\f"}, {'\b', "\\b"}};
    const auto* found = std::find_if(std::begin(kShort), std::end(kShort), [c](const auto& entry) { return entry.first == c; });
    if (found != std::end(kShort)) {
      out += found->second;
    } else if (c >= 0x20 && (!ensure_ascii || c < 0x7F)) {
      out += one;
    } else if (c < 0x10000) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned>(c));
    } else {
      absl::StrAppendFormat(&out, "\\u%04x\\u%04x", static_cast<unsigned>(0xD800 + ((c - 0x10000) >> 10)),
                            static_cast<unsigned>(0xDC00 + ((c - 0x10000) & 0x3FF)));
    }
  }
  out += '"';
}

absl::Status CheckText(const std::string& out) {
  if (out.size() <= kMaxText) return absl::OkStatus();
  return absl::ResourceExhaustedError(Cat("a text is longer than ", kMaxText, " bytes"));
}

absl::Status AppendRepr(const Value& value, std::string& out);

absl::Status AppendReprList(const List& list, std::string& out) {
  if (list.kind == ListKind::kIterator) return absl::InvalidArgumentError("a generator cannot be printed");
  const bool tuple = list.kind == ListKind::kTuple;
  out += tuple ? '(' : '[';
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out += ", ";
    BERTH_RETURN_IF_ERROR(AppendRepr(list.items[i], out));
  }
  if (tuple && list.items.size() == 1) out += ',';
  out += tuple ? ')' : ']';
  return absl::OkStatus();
}

absl::Status AppendReprDict(const Dict& dict, std::string& out) {
  out += '{';
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) out += ", ";
    BERTH_RETURN_IF_ERROR(AppendRepr(dict.items[i].first, out));
    out += ": ";
    BERTH_RETURN_IF_ERROR(AppendRepr(dict.items[i].second, out));
  }
  out += '}';
  return absl::OkStatus();
}

absl::Status AppendRepr(const Value& value, std::string& out) {
  BERTH_RETURN_IF_ERROR(CheckText(out));
  if (value.string() != nullptr) {
    AppendReprString(*value.string(), out);
    return absl::OkStatus();
  }
  if (value.list() != nullptr) return AppendReprList(*value.list(), out);
  if (value.dict() != nullptr) return AppendReprDict(*value.dict(), out);
  if (value.is_undefined()) {
    out += "Undefined";
    return absl::OkStatus();
  }
  BERTH_ASSIGN_OR_RETURN(const std::string text, ToText(value));
  out += text;
  return absl::OkStatus();
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  absl::Status Write(const Value& value, int level) {
    BERTH_RETURN_IF_ERROR(CheckText(out_));
    if (value.string() != nullptr) {
      AppendJsonString(*value.string(), style_.ensure_ascii, out_);
    } else if (value.list() != nullptr && value.list()->kind != ListKind::kIterator) {
      return WriteList(*value.list(), level);
    } else if (value.dict() != nullptr) {
      return WriteDict(*value.dict(), level);
    } else if (value.is_none() || value.is_number()) {
      out_ += Scalar(value);
    } else if (value.is_undefined()) {
      return absl::InvalidArgumentError(Cat("tojson: ", value.UndefinedMessage()));
    } else {
      return absl::InvalidArgumentError(Cat("tojson: a value of type ", value.TypeName(), " is not JSON"));
    }
    return absl::OkStatus();
  }
  std::string Take() { return std::move(out_); }

 private:
  static std::string Scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.Truthy() ? "true" : "false";
    if (value.is_int()) return Cat(value.integer());
    if (std::isnan(value.number())) return "NaN";
    if (std::isinf(value.number())) return value.number() > 0 ? "Infinity" : "-Infinity";
    return FloatText(value.number());
  }

  void Separate(bool first, int level) {
    if (!first) out_ += style_.item_separator;
    if (!style_.multi_line) return;
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += style_.indent;
  }

  absl::Status WriteList(const List& list, int level) {
    if (list.items.empty()) {
      out_ += "[]";
      return absl::OkStatus();
    }
    out_ += '[';
    for (size_t i = 0; i < list.items.size(); ++i) {
      Separate(i == 0, level + 1);
      BERTH_RETURN_IF_ERROR(Write(list.items[i], level + 1));
    }
    Separate(true, level);
    out_ += ']';
    return absl::OkStatus();
  }

  absl::Status WriteDict(const Dict& dict, int level) {
    if (dict.items.empty()) {
      out_ += "{}";
      return absl::OkStatus();
    }
    std::vector<std::pair<std::string, const Value*>> items;
    for (const auto& [key, value] : dict.items) {
      if (!key.is_string() && !key.is_number() && !key.is_none()) {
        return absl::InvalidArgumentError(Cat("tojson: a key of type ", key.TypeName(), " is not JSON"));
      }
      items.emplace_back(key.is_string() ? *key.string() : Scalar(key), &value);
    }
    if (style_.sort_keys) std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    out_ += '{';
    for (size_t i = 0; i < items.size(); ++i) {
      Separate(i == 0, level + 1);
      AppendJsonString(items[i].first, style_.ensure_ascii, out_);
      out_ += style_.key_separator;
      BERTH_RETURN_IF_ERROR(Write(*items[i].second, level + 1));
    }
    Separate(true, level);
    out_ += '}';
    return absl::OkStatus();
  }

  const JsonStyle& style_;
  std::string out_;
};

absl::StatusOr<Value> FromJsonAt(const nlohmann::ordered_json& json, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  if (depth > kMaxJsonDepth) return absl::ResourceExhaustedError(Cat("JSON nests deeper than ", kMaxJsonDepth, " levels"));
  switch (json.type()) {
    case Type::boolean:
      return Value(json.get<bool>());
    case Type::number_integer:
      return Value(json.get<int64_t>());
    case Type::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) return absl::InvalidArgumentError("a JSON integer is beyond 64 bits");
      return Value(json.get<int64_t>());
    case Type::number_float:
      return Value(json.get<double>());
    case Type::string: {
      const std::string& text = json.get_ref<const std::string&>();
      if (!base::IsUtf8(text)) return absl::InvalidArgumentError("a JSON string is not UTF-8");
      return Value(text);
    }
    case Type::array: {
      std::vector<Value> items;
      for (const auto& item : json) {
        BERTH_ASSIGN_OR_RETURN(Value value, FromJsonAt(item, depth + 1));
        items.push_back(std::move(value));
      }
      return MakeList(std::move(items));
    }
    case Type::object: {
      std::vector<std::pair<Value, Value>> items;
      for (const auto& [key, item] : json.items()) {
        if (!base::IsUtf8(key)) return absl::InvalidArgumentError("a JSON key is not UTF-8");
        BERTH_ASSIGN_OR_RETURN(Value value, FromJsonAt(item, depth + 1));
        items.emplace_back(Value(key), std::move(value));
      }
      return MakeDict(std::move(items));
    }
    default:
      return Value(None{});
  }
}

}  // namespace

absl::StatusOr<std::string> ToText(const Value& value) {
  if (value.string() != nullptr) return *value.string();
  if (value.is_undefined()) return std::string();
  if (value.is_none()) return std::string("None");
  if (value.is_bool()) return std::string(value.Truthy() ? "True" : "False");
  if (value.is_int()) return Cat(value.integer());
  if (value.is_float()) return FloatText(value.number());
  if (value.list() == nullptr && value.dict() == nullptr) {
    return absl::InvalidArgumentError(Cat("a value of type ", value.TypeName(), " cannot be printed"));
  }
  std::string out;
  BERTH_RETURN_IF_ERROR(AppendRepr(value, out));
  BERTH_RETURN_IF_ERROR(CheckText(out));
  return out;
}

absl::StatusOr<std::string> ToJson(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  BERTH_RETURN_IF_ERROR(writer.Write(value, 0));
  std::string out = writer.Take();
  BERTH_RETURN_IF_ERROR(CheckText(out));
  return out;
}

absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json) { return FromJsonAt(json, 1); }

}  // namespace berth::text::jinja
