#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/http/exchange.h"

namespace berth::http {

// The body of POST /v1/messages, Anthropic's API: text, thinking and tools. INVALID_ARGUMENT names the field.
absl::StatusOr<GenerationCall> ParseMessagesRequest(std::string_view body);
// Of POST /v1/messages/count_tokens: its prompt and model.
absl::StatusOr<v1::TokenizeRequest> ParseCountRequest(std::string_view body);

}  // namespace berth::http
