#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/text/grammar/grammar.h"
#include "worker/text/output_format.h"

namespace berth::text {

// What may follow CallOpening(format, name): one call of the tool `name`, or, when that is "", calls of any of the tools. Each
// tool is the JSON text {"type": "function", "function": {"name": …, "parameters": …, "strict": …}}. Parameters that are no
// grammar leave the arguments any object; of strict ones INVALID_ARGUMENT names the tool. A tool nested too deeply, or with too
// many members, is INVALID_ARGUMENT.
absl::StatusOr<Grammar> ToolCallGrammar(ToolFormat format, absl::Span<const std::string> tools, std::string_view name);

}  // namespace berth::text
