#include "gateway/http/responses_request.h"

#include "absl/strings/str_cat.h"
#include "gateway/http/generation_fields.h"
#include "gateway/http/responses_format.h"
#include "gateway/http/tool_fields.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

void ReadItem(JsonFields& item, v1::ChatPrompt& chat) {
  const std::string type = item.String("type").value_or("message");
  if (type == "message") {
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role(item.String("role").value_or(""));
    if (message.role().empty()) item.Fail("role", "is required");
    if (message.role() == "developer") message.set_role("system");
    AppendContent(item, "content", {"input_text", "output_text", "text"}, message.mutable_content());
  } else if (type == "function_call") {
    // Calls that follow each other were one answer.
    const bool joins = chat.messages_size() > 0 && chat.messages().rbegin()->role() == "assistant";
    v1::ChatMessage& message = joins ? *chat.mutable_messages()->rbegin() : AddMessage(chat, "assistant");
    v1::ToolCall& call = *message.add_tool_calls();
    call.set_id(item.String("call_id").value_or(""));
    call.set_name(item.String("name").value_or(""));
    call.set_arguments(item.String("arguments").value_or(""));
  } else if (type == "function_call_output") {
    v1::ChatMessage& message = AddMessage(chat, "tool");
    message.set_tool_call_id(item.String("call_id").value_or(""));
    AppendContent(item, "output", {"input_text", "text"}, message.mutable_content());
  } else if (type != "reasoning") {
    item.Fail("type", absl::StrCat("is \"", type, "\", want message, function_call, function_call_output or reasoning"));
  }
}

void ReadInput(JsonFields& fields, v1::ChatPrompt& chat) {
  if (const auto instructions = fields.String("instructions")) {
    AddMessage(chat, "system").set_content(*instructions);
  }
  const json* input = fields.Find("input");
  if (input == nullptr) return fields.Fail("input", "is required");
  if (input->is_string()) return AddMessage(chat, "user").set_content(input->get<std::string>());
  if (!input->is_array()) return fields.WrongType("input", "a string or an array of items", *input);
  if (input->empty()) return fields.Fail("input", "is empty");
  fields.EachObject("input", *input, [&chat](JsonFields& item) { ReadItem(item, chat); });
}

// {"text": {"format": …}} and {"reasoning": {"effort": …}}.
void ReadNested(JsonFields& fields, v1::GenerationSpec& spec) {
  if (const json* text = fields.Object("text")) {
    JsonFields inner(*text, "text");
    ReadFormat(inner, "format", nullptr, spec);
    inner.String("verbosity");
    fields.Take(inner);
  }
  if (const json* reasoning = fields.Object("reasoning")) {
    JsonFields inner(*reasoning, "reasoning");
    if (const auto effort = inner.String("effort")) {
      v1::ChatPrompt& chat = *spec.mutable_prompt()->mutable_chat();
      (*chat.mutable_template_variables()->mutable_fields())["reasoning_effort"].set_string_value(*effort);
    }
    fields.Take(inner);
  }
}

void RefuseState(JsonFields& fields) {
  for (const char* name : {"previous_response_id", "conversation", "prompt", "max_tool_calls", "context_management"}) {
    fields.Refuse(name);
  }
  fields.Refuse("top_logprobs", "is not supported here, but in /v1/chat/completions");
  if (fields.Bool("background").value_or(false)) fields.Fail("background", "is true, only false is supported");
  if (const std::string mode = fields.String("truncation").value_or("disabled"); mode != "disabled") {
    fields.Fail("truncation", absl::StrCat("is \"", mode, "\", only disabled is supported"));
  }
  const json* include = fields.Array("include");
  if (include != nullptr && !include->empty()) fields.Fail("include", "is not supported unless it is empty");
}

}  // namespace

GenerationCall ReadResponses(JsonFields& fields, int64_t created) {
  GenerationCall call;
  ReadModel(fields, call.spec);
  v1::ChatPrompt& chat = *call.spec.mutable_prompt()->mutable_chat();
  ReadInput(fields, chat);
  call.single_tool_call = ReadTools(fields, ToolStyle::kResponses, chat);
  if (const auto limit = ReadMaxTokens(fields, {"max_output_tokens"})) call.spec.mutable_stop()->set_max_tokens(*limit);
  ReadSampling(fields, *call.spec.mutable_sampling(), /*most_choices=*/1);
  ReadNested(fields, call.spec);
  ReadSession(fields, call.spec);
  RefuseState(fields);
  PassOver(fields);
  call.stream = fields.Bool("stream").value_or(false);
  ReadStreamOptions(fields, call.stream);
  if (fields.status().ok()) call.format = MakeResponsesFormat(fields.object(), created);
  return call;
}

}  // namespace berth::http
