#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace berth::http {

// Whose clients are to read an error.
enum class ErrorStyle { kOpenAi, kAnthropic };

// {"error": {"message", "type", "param", "code"}}, as OpenAI's clients read it. `param` is the request's field at fault, as the
// endpoint at `path` calls it; `code` the error's reason in lower case.
std::string ErrorBody(const absl::Status& status, std::string_view path = "");
// For errors of HTTP itself; `code` may be empty.
std::string ErrorBody(int http_code, const std::string& message, const std::string& code);

// {"type": "error", "error": {"type", "message"}}, as Anthropic's clients read it.
std::string AnthropicErrorBody(const absl::Status& status);
std::string AnthropicErrorBody(int http_code, const std::string& message);

// 499 for a request that its caller cancelled, else the table of google.rpc.Code.
int HttpStatusOf(const absl::Status& status);
// Seconds for Retry-After; 0: none.
int RetryAfterSeconds(const absl::Status& status);

}  // namespace berth::http
