#include "worker/text/chat_template.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/json_scan.h"
#include "base/status.h"
#include "base/utf8.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/template.h"
#include "worker/text/jinja/unicode.h"

namespace berth::text {
namespace {

using jinja::Value;

constexpr base::JsonBounds kBounds{.keys = 1024};  // a call has many such texts

absl::StatusOr<Value> ParseJson(const std::string& name, const std::string& text) {
  BERTH_RETURN_IF_ERROR(base::CheckJson(text, absl::StrCat("the template variable '", name, "'"), kBounds));
  const auto json = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError(absl::StrCat("the template variable '", name, "' is not JSON"));
  absl::StatusOr<Value> value = jinja::FromJson(json);
  if (value.ok()) return value;
  return absl::InvalidArgumentError(absl::StrCat("the template variable '", name, "': ", value.status().message()));
}

absl::StatusOr<Value> MessageValue(const ChatMessage& message) {
  if (!base::IsUtf8(message.role) || !base::IsUtf8(message.content)) {
    return absl::InvalidArgumentError("a message is not UTF-8");
  }
  std::vector<std::pair<Value, Value>> items = {{Value("role"), Value(message.role)},
                                                {Value("content"), Value(message.content)}};
  for (const auto& [name, json] : message.fields) {
    BERTH_ASSIGN_OR_RETURN(Value value, ParseJson(name, json));
    items.emplace_back(Value(name), std::move(value));
  }
  return jinja::MakeDict(std::move(items));
}

class JinjaChatTemplate : public ChatTemplate {
 public:
  JinjaChatTemplate(jinja::Template parsed, std::string bos, std::string eos)
      : template_(std::move(parsed)), bos_(std::move(bos)), eos_(std::move(eos)) {}

  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages, const RenderOptions& options) const override {
    std::vector<Value> list;
    for (const ChatMessage& message : messages) {
      BERTH_ASSIGN_OR_RETURN(Value value, MessageValue(message));
      list.push_back(std::move(value));
    }
    BERTH_ASSIGN_OR_RETURN(Value all, jinja::MakeList(std::move(list)));
    // tools and documents are always defined, as Hugging Face defines them.
    std::vector<std::pair<std::string, Value>> variables = {
        {"messages", std::move(all)},    {"add_generation_prompt", Value(options.add_generation_prompt)},
        {"bos_token", Value(bos_)},      {"eos_token", Value(eos_)},
        {"tools", Value(jinja::None{})}, {"documents", Value(jinja::None{})}};
    for (const auto& [name, json] : options.variables) {
      BERTH_ASSIGN_OR_RETURN(Value value, ParseJson(name, json));
      variables.emplace_back(name, std::move(value));
    }
    return template_.Render(variables, options.clock);
  }

 private:
  const jinja::Template template_;
  const std::string bos_;
  const std::string eos_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ParseChatTemplate(std::string_view source, std::string bos, std::string eos) {
  if (!base::IsUtf8(bos) || !base::IsUtf8(eos)) return absl::InvalidArgumentError("the text of a special token is not UTF-8");
  BERTH_ASSIGN_OR_RETURN(jinja::Template parsed, jinja::Template::FromSource(source));
  return std::make_unique<JinjaChatTemplate>(std::move(parsed), std::move(bos), std::move(eos));
}

}  // namespace berth::text
