#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace berth::model {

// A model's configuration as Hugging Face's config.json spells it: fields with typed values. A nested object's fields are named
// by their path ("rope_scaling.factor"). A field that is null counts as absent, but for IsNull. Errors are INVALID_ARGUMENT and
// name the field and the value.
class HfConfig {
 public:
  using Scalar = std::variant<bool, int64_t, double, std::string>;
  struct Field {
    std::vector<Scalar> values;
    bool is_list = false;
  };

  // Lists of other than scalars are not kept: no field that Berth reads is one.
  static absl::StatusOr<HfConfig> Parse(std::string_view json);

  // A text that Parse reads back, without its nulls.
  std::string ToJson() const;

  void SetNull(std::string name) { nulls_.insert(std::move(name)); }
  void Set(std::string name, Scalar value) { fields_[std::move(name)] = Field{{std::move(value)}}; }
  void SetList(std::string name, std::vector<Scalar> values) { fields_[std::move(name)] = Field{std::move(values), true}; }

  // True for a scalar, a list, and an object with at least one field.
  bool Has(std::string_view name) const;
  // For fields whose absence means another value than null.
  bool IsNull(std::string_view name) const { return nulls_.contains(name); }

  // The field must be there and hold that type; every integer is also a float.
  absl::StatusOr<int64_t> Int(std::string_view name) const;
  absl::StatusOr<double> Float(std::string_view name) const;
  absl::StatusOr<bool> Bool(std::string_view name) const;
  absl::StatusOr<std::string> String(std::string_view name) const;

  // `absent` when the field is not there; another type is an error all the same.
  absl::StatusOr<int64_t> IntOr(std::string_view name, int64_t absent) const;
  absl::StatusOr<double> FloatOr(std::string_view name, double absent) const;
  absl::StatusOr<bool> BoolOr(std::string_view name, bool absent) const;
  absl::StatusOr<std::string> StringOr(std::string_view name, std::string absent) const;

  // Empty when the field is not there; one scalar is a list of one.
  absl::StatusOr<std::vector<int64_t>> Ints(std::string_view name) const;
  absl::StatusOr<std::vector<double>> Floats(std::string_view name) const;
  absl::StatusOr<std::vector<std::string>> Strings(std::string_view name) const;

  // `code`, with the field's name, its value and `problem`: `hidden_act is "foo": want …`.
  absl::Status Error(std::string_view name, std::string_view problem,
                     absl::StatusCode code = absl::StatusCode::kInvalidArgument) const;

 private:
  template <typename T>
  absl::StatusOr<T> One(std::string_view name, std::string_view type) const;
  template <typename T>
  absl::StatusOr<std::vector<T>> Many(std::string_view name, std::string_view type) const;

  std::map<std::string, Field, std::less<>> fields_;
  std::set<std::string, std::less<>> nulls_;
};

}  // namespace berth::model
