#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/text/jinja/ast.h"

namespace berth::text::jinja {

// A parsed template. Immutable and thread-safe.
class Template {
 public:
  // INVALID_ARGUMENT as Parse.
  static absl::StatusOr<Template> FromSource(std::string_view source);

  // `variables` are what the template sees beside the environment's functions. INVALID_ARGUMENT with the template's own message
  // when it calls raise_exception, else with the line where it went wrong; RESOURCE_EXHAUSTED when it recurses too deep, loops
  // too often, writes more than 16 MiB or works too long.
  absl::StatusOr<std::string> Render(const std::vector<std::pair<std::string, Value>>& variables, absl::Time clock) const;

 private:
  explicit Template(Body body) : body_(std::move(body)) {}
  Body body_;
};

}  // namespace berth::text::jinja
