#include "gateway/http/error_body.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "nlohmann/json.hpp"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

const char* ErrorType(int http_code) {
  if (http_code == 401) return "authentication_error";
  if (http_code == 403) return "permission_error";
  if (http_code == 429) return "rate_limit_error";
  return http_code < 500 ? "invalid_request_error" : "server_error";
}

std::string Dump(int http_code, const std::string& message, const std::string& param, const std::string& code) {
  const json error = {{"message", message},
                      {"type", ErrorType(http_code)},
                      {"param", param.empty() ? json(nullptr) : json(param)},
                      {"code", code.empty() ? json(nullptr) : json(code)}};
  return json{{"error", error}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Fields of the contract are named by their path in GenerationSpec, "sampling.temperature"; a caller of HTTP knows the last
// part.
std::string ParamOf(const absl::Status& status) {
  const auto violations = rpc::FieldViolations(status);
  if (violations.empty()) return "";
  const std::string& field = violations.front().first;
  if (field == "prompt.chat.tool_schemas") return "tools";
  if (field == "prompt.chat.forced_tool" || field == "prompt.chat.call_required") return "tool_choice";
  if (field.starts_with("prompt.infill")) return "suffix";
  if (field.starts_with("inputs")) return "input";
  const std::string message = field.substr(0, field.find('.'));
  if (message != "sampling" && message != "stop" && message != "output") return field;
  const std::string last = field.substr(field.rfind('.') + 1);
  if (last == "choice_count") return "n";
  if (last == "stop_strings") return "stop";
  return last;
}

}  // namespace

std::string ErrorBody(const absl::Status& status) {
  return Dump(HttpStatusOf(status), std::string(status.message()), ParamOf(status), absl::AsciiStrToLower(rpc::Reason(status)));
}

std::string AnthropicErrorBody(const absl::Status& status) {
  return AnthropicErrorBody(HttpStatusOf(status), std::string(status.message()));
}

std::string AnthropicErrorBody(int http_code, const std::string& message) {
  const char* type = http_code == 404   ? "not_found_error"
                     : http_code == 413 ? "request_too_large"
                     : http_code == 503 ? "overloaded_error"
                                        : ErrorType(http_code);
  if (std::string_view(type) == "server_error") type = "api_error";
  const json body = {{"type", "error"}, {"error", {{"type", type}, {"message", message}}}};
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string ErrorBody(int http_code, const std::string& message, const std::string& code) {
  return Dump(http_code, message, "", code);
}

int HttpStatusOf(const absl::Status& status) { return rpc::HttpCode(status.code()); }

int RetryAfterSeconds(const absl::Status& status) {
  const std::optional<absl::Duration> delay = rpc::RetryAfter(status);
  return delay.has_value() ? static_cast<int>(std::ceil(absl::ToDoubleSeconds(*delay))) : 0;
}

}  // namespace berth::http
