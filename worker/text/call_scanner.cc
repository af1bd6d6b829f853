#include "worker/text/call_scanner.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"

namespace berth::text {
namespace {

// Of a JSON string as written; "" when it is none.
std::string Unquoted(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_string() ? json.get<std::string>() : "";
}

}  // namespace

CallScanner::State CallScanner::Append(char c) {
  const bool blank = absl::ascii_isspace(static_cast<unsigned char>(c));
  if (place_ == Place::kInValue) return AppendToValue(c);
  if (place_ == Place::kInKey) {
    key_.push_back(c);
    if (c == '"') place_ = Place::kColon;
    return c == '\\' ? State::kBroken : State::kOpen;
  }
  if (blank) return State::kOpen;
  switch (place_) {
    case Place::kBegin:
      place_ = Place::kKey;
      return c == '{' ? State::kOpen : State::kBroken;
    case Place::kKey:
      key_ = c;
      place_ = Place::kInKey;
      return c == '"' ? State::kOpen : State::kBroken;
    case Place::kColon:
      place_ = Place::kValue;
      return c == ':' ? State::kOpen : State::kBroken;
    case Place::kValue:
      return BeginValue(c);
    default:
      return AfterValue(c);
  }
}

CallScanner::State CallScanner::BeginValue(char c) {
  if (c == ',' || c == '}' || c == ']') return State::kBroken;
  place_ = Place::kInValue;
  value_.clear();
  in_string_ = escaped_ = false;
  depth_ = 0;
  // A string may hold the arguments: that is known at its end.
  streams_ = is_arguments() && !name_.empty() && (c == '{' || c == '[');
  return AppendToValue(c);
}

CallScanner::State CallScanner::AppendToValue(char c) {
  const bool scalar_ends =
      !in_string_ && depth_ == 0 && (c == ',' || c == '}' || absl::ascii_isspace(static_cast<unsigned char>(c)));
  if (scalar_ends) {
    const State state = EndValue();
    return state == State::kOpen ? Append(c) : state;
  }
  (streams_ ? arguments_ : value_).push_back(c);
  return ClosesValue(c) ? EndValue() : State::kOpen;
}

// Whether the byte ends a string or a container that is the value.
bool CallScanner::ClosesValue(char c) {
  if (in_string_) {
    if (escaped_ || c == '\\') {
      escaped_ = !escaped_;
      return false;
    }
    in_string_ = c != '"';
    return !in_string_ && depth_ == 0;
  }
  in_string_ = c == '"';
  if (c == '{' || c == '[') ++depth_;
  return (c == '}' || c == ']') && --depth_ == 0;
}

CallScanner::State CallScanner::EndValue() {
  place_ = Place::kAfterValue;
  if (key_ == "\"name\"" && name_.empty()) {
    name_ = Unquoted(value_);
    return name_.empty() ? State::kBroken : State::kOpen;
  }
  if (!is_arguments() || std::exchange(has_arguments_, true)) return State::kOpen;
  if (!std::exchange(streams_, false)) arguments_ = value_.front() == '"' ? Unquoted(value_) : value_;
  return State::kOpen;
}

CallScanner::State CallScanner::AfterValue(char c) {
  if (c == ',') {
    place_ = Place::kKey;
    return State::kOpen;
  }
  if (c != '}' || name_.empty()) return State::kBroken;
  if (!has_arguments_) arguments_ = "{}";
  return State::kDone;
}

std::string CallScanner::TakeArguments() { return name_.empty() ? "" : std::exchange(arguments_, {}); }

}  // namespace berth::text
