#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace berth::http {

// The fields of one JSON object of a request, read with their types checked. An absent field and null are the same. The first
// mistake is kept, as INVALID_ARGUMENT with the field's path; later reads still answer, so that a caller checks once at the
// end.
class JsonFields {
 public:
  // `object` outlives this. `prefix` is the path of the object, "" for the body itself.
  explicit JsonFields(const nlohmann::ordered_json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  std::optional<bool> Bool(const char* name);
  std::optional<int32_t> Int32(const char* name, int32_t least = std::numeric_limits<int32_t>::min(),
                               int32_t most = std::numeric_limits<int32_t>::max());
  std::optional<int64_t> Int64(const char* name);
  // Finite as a float.
  std::optional<float> Float(const char* name);
  // Of a field that the caller has found.
  std::optional<float> Float(const std::string& name, const nlohmann::ordered_json& value);
  std::optional<std::string> String(const char* name);
  // Null when absent.
  const nlohmann::ordered_json* Array(const char* name);
  const nlohmann::ordered_json* Object(const char* name);
  // Reads the entries of `array`, the field `name`, one after the other. One that is no object is a mistake and the end.
  void EachObject(const char* name, const nlohmann::ordered_json& array, absl::FunctionRef<void(JsonFields& entry)> read);
  // A string, or an array of strings.
  std::vector<std::string> Strings(const char* name);
  std::vector<int32_t> Int32s(const char* name);
  // Null when absent or JSON null.
  const nlohmann::ordered_json* Find(const char* name);
  // What would change the answer and is not offered: a mistake when it is there.
  void Refuse(const char* name, const std::string& why = "is not supported");
  // The object's fields that nothing above was called for, as a caller may be told of them: at most so many, of plain
  // characters.
  std::vector<std::string> Unread(size_t most = 16) const;
  // All that was asked for, there or not, but for what is refused.
  const std::set<std::string, std::less<>>& read() const { return read_; }
  const nlohmann::ordered_json& object() const { return object_; }

  void Fail(const std::string& name, const std::string& description);
  void WrongType(const std::string& name, const char* expected, const nlohmann::ordered_json& value);
  // Keeps another's mistake.
  void Take(const JsonFields& inner) {
    if (status_.ok()) status_ = inner.status_;
  }
  const absl::Status& status() const { return status_; }
  std::string PathOf(const std::string& name) const { return prefix_.empty() ? name : prefix_ + "." + name; }

 private:
  const nlohmann::ordered_json& object_;
  const std::string prefix_;
  std::set<std::string, std::less<>> read_, refused_;
  absl::Status status_;
};

// The object in a request's body. INVALID_ARGUMENT says where the text stops being JSON, that it nests too deep or has too many
// keys, or that it is no object.
absl::StatusOr<nlohmann::ordered_json> ParseObject(std::string_view text);

// What `read` makes of a body's fields, or the first mistake. `ignored` gets the fields that nobody knows.
template <typename Read>
absl::StatusOr<std::invoke_result_t<Read, JsonFields&>> ParseBody(Read read, std::string_view body,
                                                                  std::vector<std::string>* ignored = nullptr) {
  const absl::StatusOr<nlohmann::ordered_json> object = ParseObject(body);
  if (!object.ok()) return object.status();
  JsonFields fields(*object);
  auto request = read(fields);
  if (!fields.status().ok()) return fields.status();
  if (ignored != nullptr) *ignored = fields.Unread();
  return request;
}

}  // namespace berth::http
