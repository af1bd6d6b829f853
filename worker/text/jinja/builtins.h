#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/jinja/value.h"

namespace berth::text::jinja {

// What filters, tests, methods and functions need from the render that runs them.
class Runtime {
 public:
  virtual ~Runtime() = default;
  // RESOURCE_EXHAUSTED when the render has used up its work; every built-in charges for what it reads and makes.
  virtual absl::Status Charge(size_t work) = 0;
  virtual Namespace* NewNamespace() = 0;
  // strftime of the render's clock, UTC.
  virtual absl::StatusOr<std::string> FormatNow(const std::string& format) = 0;
  // The status that ends the render with the template's own words.
  virtual absl::Status Raise(const std::string& message) = 0;
};

// The work of making one item of a list or dict: about its bytes.
inline constexpr size_t kItemWork = 32;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// INVALID_ARGUMENT for wrong arguments and for values that the built-in cannot use.
using Filter = absl::StatusOr<Value> (*)(Runtime& runtime, const Value& input, const Arguments& arguments);
using Test = absl::StatusOr<bool> (*)(Runtime& runtime, const Value& input, const Arguments& arguments);

// nullptr: there is none of this name.
Filter FindFilter(std::string_view name);
Test FindTest(std::string_view name);

// A method of Python's str, list or dict that templates here do not have.
bool IsMissingMethod(std::string_view name);
// Whether `value`, a string, list or dict, has the method. INVALID_ARGUMENT for one of Python's that is not supported.
absl::StatusOr<bool> HasMethod(const Value& value, std::string_view name);
absl::StatusOr<Value> CallMethod(Runtime& runtime, const BoundMethod& method, const Arguments& arguments);

// The environment's functions: range, dict, namespace, raise_exception, strftime_now. Undefined when there is none of this
// name.
Value FindFunction(std::string_view name);
absl::StatusOr<Value> CallFunction(Runtime& runtime, const Function& function, const Arguments& arguments);

}  // namespace berth::text::jinja
