#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace berth::text {

struct ChatMessage {
  std::string role;
  std::string content;
  std::map<std::string, std::string>
      fields;  // more keys (name, tool_calls, …) as JSON values; "content" here replaces the text
};

struct RenderOptions {
  bool add_generation_prompt = true;
  absl::Time clock;                              // what strftime_now sees: fixed by the gateway, so that a resume renders alike
  std::map<std::string, std::string> variables;  // chat_template_kwargs as JSON values
};

// A Hugging Face chat template (Jinja). Immutable and thread-safe.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  // INVALID_ARGUMENT with the template's own message when it calls raise_exception, or when it meets a value it cannot use.
  virtual absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages, const RenderOptions& options) const = 0;
};

// `bos` and `eos` are the texts of those tokens. INVALID_ARGUMENT names an unsupported construct and its line.
absl::StatusOr<std::unique_ptr<ChatTemplate>> ParseChatTemplate(std::string_view source, std::string bos, std::string eos);

}  // namespace berth::text
