#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/jinja/builtins.h"
#include "worker/text/jinja/value.h"

namespace berth::text::jinja {

// Python's + - * / // % **. INVALID_ARGUMENT for operands Python refuses, and for integers beyond 64 bits.
absl::StatusOr<Value> Arithmetic(Runtime& runtime, std::string_view op, const Value& left, const Value& right);
// == != < <= > >= in, not in.
absl::StatusOr<bool> CompareWith(Runtime& runtime, std::string_view op, const Value& left, const Value& right);
absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item);

// `value.name`: a method, then an item of that name; undefined when there is neither.
absl::StatusOr<Value> GetAttribute(const Value& value, const std::string& name);
// `value[key]`.
absl::StatusOr<Value> GetItem(const Value& value, const Value& key);
// `value[from:to:step]`; a bound left out is undefined.
absl::StatusOr<Value> GetSlice(Runtime& runtime, const Value& value, const Value& from, const Value& to, const Value& step);

// What a loop over the value would see: characters, items, keys.
absl::StatusOr<std::vector<Value>> Iterate(Runtime& runtime, const Value& value);
// INVALID_ARGUMENT when the value has no length.
absl::StatusOr<int64_t> Length(const Value& value);

// The text of a value, charged.
absl::StatusOr<std::string> Text(Runtime& runtime, const Value& value);

}  // namespace berth::text::jinja
