#include "gateway/http/error_body.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gateway/http/json_text.h"
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

std::string OpenAiBody(int http_code, const std::string& message, const std::string& param, const std::string& code) {
  const json error = {{"message", message},
                      {"type", ErrorType(http_code)},
                      {"param", param.empty() ? json(nullptr) : json(param)},
                      {"code", code.empty() ? json(nullptr) : json(code)}};
  return Dump({{"error", error}});
}

struct FieldName {
  std::string_view path;  // of the endpoint that says so; "": all
  std::string_view field, name;
};

constexpr FieldName kFieldNames[] = {
    {"/v1/messages", "stop.stop_strings", "stop_sequences"},
    {"/v1/responses", "constraint", "text.format"},
    {"/v1/detokenize", "token_ids", "tokens"},
    {"/generate", "prompt.token_ids", "input_ids"},
    {"/v1/completions", "prompt.token_ids", "prompt"},
    {"/v1/completions", "token_ids", "prompt"},
    {"", "constraint", "response_format"},
    {"", "stop.stop_strings", "stop"},
    {"", "sampling.choice_count", "n"},
    {"", "prompt.chat.tool_schemas", "tools"},
    {"", "prompt.chat.forced_tool", "tool_choice"},
    {"", "prompt.chat.call_required", "tool_choice"},
    {"", "prompt.infill", "suffix"},
    {"", "prompt.infill.suffix", "suffix"},
};

// Fields of the contract are named by their path in GenerationSpec, "sampling.temperature"; a caller of HTTP knows the last
// part, or another name.
std::string ParamOf(const absl::Status& status, std::string_view path) {
  const auto violations = rpc::FieldViolations(status);
  if (violations.empty()) return "";
  const std::string& field = violations.front().first;
  for (const FieldName& known : kFieldNames) {
    if (known.field == field && (known.path.empty() || known.path == path)) return std::string(known.name);
  }
  if (field.starts_with("inputs")) return "input";
  const std::string message = field.substr(0, field.find('.'));
  return message == "sampling" || message == "stop" || message == "output" ? field.substr(field.rfind('.') + 1) : field;
}

// The status's, with that name.
std::string MessageOf(const absl::Status& status, const std::string& param) {
  absl::string_view message = status.message();
  const auto violations = rpc::FieldViolations(status);
  return !violations.empty() && absl::ConsumePrefix(&message, violations.front().first + ":")
             ? absl::StrCat(param, ":", message)
             : std::string(message);
}

}  // namespace

std::string ErrorBody(const absl::Status& status, std::string_view path) {
  const std::string param = ParamOf(status, path);
  return OpenAiBody(HttpStatusOf(status), MessageOf(status, param), param, absl::AsciiStrToLower(rpc::Reason(status)));
}

std::string AnthropicErrorBody(const absl::Status& status) {
  return AnthropicErrorBody(HttpStatusOf(status), MessageOf(status, ParamOf(status, "/v1/messages")));
}

std::string AnthropicErrorBody(int http_code, const std::string& message) {
  const char* type = http_code == 404   ? "not_found_error"
                     : http_code == 413 ? "request_too_large"
                     : http_code == 503 ? "overloaded_error"
                                        : ErrorType(http_code);
  if (std::string_view(type) == "server_error") type = "api_error";
  return Dump({{"type", "error"}, {"error", {{"type", type}, {"message", message}}}});
}

std::string ErrorBody(int http_code, const std::string& message, const std::string& code) {
  return OpenAiBody(http_code, message, "", code);
}

int HttpStatusOf(const absl::Status& status) { return rpc::HttpCode(status.code()); }

int RetryAfterSeconds(const absl::Status& status) {
  const std::optional<absl::Duration> delay = rpc::RetryAfter(status);
  return delay.has_value() ? static_cast<int>(std::ceil(absl::ToDoubleSeconds(*delay))) : 0;
}

}  // namespace berth::http
