#include "gateway/http/messages_request.h"

#include "absl/strings/str_cat.h"
#include "gateway/http/generation_fields.h"
#include "gateway/http/json_text.h"
#include "gateway/http/messages_format.h"
#include "gateway/http/tool_fields.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

// One block of a message. What a tool answered becomes a message of its own, before the rest of this one.
void ReadBlock(JsonFields& block, v1::ChatPrompt& chat, v1::ChatMessage& message) {
  const std::string type = block.String("type").value_or("");
  if (type == "text") {
    message.mutable_content()->append(block.String("text").value_or(""));
  } else if (type == "tool_use") {
    v1::ToolCall& call = *message.add_tool_calls();
    call.set_id(block.String("id").value_or(""));
    call.set_name(block.String("name").value_or(""));
    const json* input = block.Object("input");
    call.set_arguments(input == nullptr ? "{}" : Dump(*input));
  } else if (type == "tool_result") {
    v1::ChatMessage& result = AddMessage(chat, "tool");
    result.set_tool_call_id(block.String("tool_use_id").value_or(""));
    AppendContent(block, "content", {"text"}, result.mutable_content());
  } else if (type != "thinking" && type != "redacted_thinking") {
    block.Fail("type", absl::StrCat("is \"", type, "\", want text, thinking, tool_use or tool_result"));
  }
}

void ReadMessage(JsonFields& entry, v1::ChatPrompt& chat) {
  v1::ChatMessage message;
  message.set_role(entry.String("role").value_or(""));
  if (message.role() != "user" && message.role() != "assistant") {
    entry.Fail("role", absl::StrCat("is \"", message.role(), "\", want user or assistant"));
  }
  const json* content = entry.Find("content");
  if (content == nullptr) return entry.Fail("content", "is required");
  bool only_results = content->is_array() && !content->empty();
  if (!content->is_array()) {
    AppendContent(entry, "content", {}, message.mutable_content());
  } else {
    entry.EachObject("content", *content, [&](JsonFields& block) {
      ReadBlock(block, chat, message);
      only_results &= block.String("type") == "tool_result";
    });
  }
  if (!only_results) *chat.add_messages() = std::move(message);
}

void ReadConversation(JsonFields& fields, v1::ChatPrompt& chat) {
  if (fields.Find("system") != nullptr) {
    AppendContent(fields, "system", {"text"}, AddMessage(chat, "system").mutable_content());
  }
  const json* messages = fields.Array("messages");
  if (messages == nullptr || messages->empty()) return fields.Fail("messages", "must be a non-empty array");
  fields.EachObject("messages", *messages, [&chat](JsonFields& entry) { ReadMessage(entry, chat); });
}

// {"type": "enabled" | "disabled"}: for templates that can leave reasoning out.
void ReadThinking(JsonFields& fields, v1::ChatPrompt& chat) {
  const json* thinking = fields.Object("thinking");
  if (thinking == nullptr) return;
  JsonFields inner(*thinking, "thinking");
  const std::string type = inner.String("type").value_or("");
  if (type != "enabled" && type != "disabled" && type != "adaptive") {
    inner.Fail("type", absl::StrCat("is \"", type, "\", want enabled, adaptive or disabled"));
  }
  (*chat.mutable_template_variables()->mutable_fields())["enable_thinking"].set_bool_value(type != "disabled");
  fields.Take(inner);
}

}  // namespace

GenerationCall ReadMessages(JsonFields& fields) {
  GenerationCall call;
  ReadModel(fields, call.spec);
  v1::ChatPrompt& chat = *call.spec.mutable_prompt()->mutable_chat();
  ReadConversation(fields, chat);
  call.single_tool_call = ReadTools(fields, ToolStyle::kMessages, chat);
  ReadThinking(fields, chat);
  if (fields.Find("max_tokens") == nullptr) fields.Fail("max_tokens", "is required");
  if (const auto limit = ReadMaxTokens(fields, {"max_tokens"})) call.spec.mutable_stop()->set_max_tokens(*limit);
  ReadStopStrings(fields, "stop_sequences", *call.spec.mutable_stop());
  ReadSampling(fields, *call.spec.mutable_sampling(), /*most_choices=*/1);
  ReadSession(fields, call.spec);
  PassOver(fields);
  for (const char* name : {"mcp_servers", "container"}) fields.Refuse(name);
  call.stream = fields.Bool("stream").value_or(false);
  call.format = MakeMessagesFormat();
  return call;
}

v1::TokenizeRequest ReadCountTokens(JsonFields& fields) {
  v1::GenerationSpec spec;
  ReadModel(fields, spec);
  v1::ChatPrompt& chat = *spec.mutable_prompt()->mutable_chat();
  ReadConversation(fields, chat);
  ReadTools(fields, ToolStyle::kMessages, chat);
  ReadThinking(fields, chat);
  v1::TokenizeRequest request;
  request.set_model(spec.model());
  *request.mutable_prompt() = std::move(*spec.mutable_prompt());
  return request;
}

}  // namespace berth::http
