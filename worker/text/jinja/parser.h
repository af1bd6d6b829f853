#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "worker/text/jinja/ast.h"

namespace berth::text::jinja {

// A template's statements. INVALID_ARGUMENT names a syntax error or a construct that is not supported, and its line: unknown
// statements, filters, tests and methods of Python that templates here do not have are all seen now, not when rendering.
// Nesting is bounded.
absl::StatusOr<Body> Parse(std::string_view source);

}  // namespace berth::text::jinja
