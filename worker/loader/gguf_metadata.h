#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace berth::loader {

// The key-value part of a GGUF file. Integers of all widths are int64, floats double; an array of bool is one of integers.
class GgufMetadata {
 public:
  using Value =
      std::variant<bool, int64_t, double, std::string, std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;

  // False when the key is already there.
  bool Add(std::string key, Value value) { return values_.emplace(std::move(key), std::move(value)).second; }

  bool Has(std::string_view key) const { return values_.find(key) != values_.end(); }

  // Null when the key is absent or holds another type.
  template <typename T>
  const T* Find(std::string_view key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? nullptr : std::get_if<T>(&it->second);
  }

  // INVALID_ARGUMENT names the key when it is absent or holds another type, and says what it holds.
  absl::StatusOr<int64_t> Int(std::string_view key) const;
  absl::StatusOr<double> Float(std::string_view key) const;
  absl::StatusOr<bool> Bool(std::string_view key) const;
  absl::StatusOr<std::string> String(std::string_view key) const;

  // `key is VALUE: problem`.
  absl::Status Error(std::string_view key, std::string_view problem,
                     absl::StatusCode code = absl::StatusCode::kInvalidArgument) const;

  const std::map<std::string, Value, std::less<>>& values() const { return values_; }

 private:
  template <typename T>
  absl::StatusOr<T> Require(std::string_view key, std::string_view type) const;

  std::map<std::string, Value, std::less<>> values_;
};

}  // namespace berth::loader
