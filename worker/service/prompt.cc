#include "worker/service/prompt.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "proto/rpc/status.h"
#include "worker/text/detokenizer.h"

namespace berth::service {
namespace {

absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message) {
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json);
  if (!status.ok()) return rpc::FieldError("prompt.chat.template_variables", std::string(status.message()));
  return json;
}

absl::StatusOr<text::RenderOptions> MakeRenderOptions(const v1::ChatPrompt& chat, const v1::GenerationSpec& spec) {
  text::RenderOptions options;
  options.add_generation_prompt = !chat.has_add_generation_prompt() || chat.add_generation_prompt();
  options.clock = absl::FromUnixSeconds(spec.template_clock().seconds()) + absl::Nanoseconds(spec.template_clock().nanos());
  if (!spec.has_template_clock()) options.clock = absl::Now();
  if (chat.has_template_variables()) {
    for (const auto& [name, value] : chat.template_variables().fields()) {
      BERTH_ASSIGN_OR_RETURN(options.variables[name], ToJson(value));
    }
  }
  if (!chat.tool_schemas().empty())
    options.variables["tools"] = absl::StrCat("[", absl::StrJoin(chat.tool_schemas(), ","), "]");
  return options;
}

// `prompt`, if any, learns how the answer begins, and its opening is written.
absl::StatusOr<std::vector<int32_t>> RenderAndEncode(const std::vector<text::ChatMessage>& messages,
                                                     const text::RenderOptions& options, const ServedModel& model,
                                                     PreparedPrompt* prompt = nullptr) {
  absl::StatusOr<std::string> rendered = model.chat_template->Render(messages, options);
  if (!rendered.ok()) return rpc::FieldError("prompt.chat", std::string(rendered.status().message()));
  if (prompt != nullptr && model.output_format.reasoning && options.add_generation_prompt) {
    prompt->opens_reasoning = absl::EndsWith(absl::StripTrailingAsciiWhitespace(*rendered), "<think>");
  }
  if (prompt != nullptr && !prompt->opening.empty()) {
    if (prompt->opens_reasoning) prompt->opening.insert(0, "\n</think>\n\n");
    rendered->append(prompt->opening);
  }
  // The template itself writes the special tokens.
  auto tokens = model.tokenizer->Encode(*rendered, {.add_special = false});
  if (!tokens.ok()) return rpc::FieldError("prompt.chat", std::string(tokens.status().message()));
  return tokens;
}

// As templates expect them: arguments that are an object are one.
std::string ToolCallsJson(const v1::ChatMessage& message) {
  std::string list;
  for (const v1::ToolCall& call : message.tool_calls()) {
    const auto quoted = [](const std::string& text) {
      return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    };
    const bool object =
        absl::StartsWith(absl::StripLeadingAsciiWhitespace(call.arguments()), "{") && nlohmann::json::accept(call.arguments());
    absl::StrAppend(&list, list.empty() ? "[" : ",", R"({"id":)", quoted(call.id()),
                    R"(,"type":"function","function":{"name":)", quoted(call.name()), R"(,"arguments":)",
                    object ? call.arguments() : quoted(call.arguments()), "}}");
  }
  return list + "]";
}

std::vector<text::ChatMessage> MessagesOf(const v1::ChatPrompt& chat) {
  std::vector<text::ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    text::ChatMessage& out = messages.emplace_back(text::ChatMessage{.role = message.role(), .content = message.content()});
    const auto add = [&out](const char* name, const std::string& text) {
      if (!text.empty()) out.fields[name] = nlohmann::json(text).dump();
    };
    add("name", message.name());
    add("tool_call_id", message.tool_call_id());
    if (!message.tool_calls().empty()) out.fields["tool_calls"] = ToolCallsJson(message);
  }
  return messages;
}

absl::Status ReadTools(const v1::ChatPrompt& chat, const ServedModel& model, PreparedPrompt* prompt) {
  const text::ToolFormat format = model.output_format.tools;
  if (!chat.tool_schemas().empty() && format == text::ToolFormat::kNone) {
    return rpc::FieldError("prompt.chat.tool_schemas", "the model's chat template shows no format of tool calls");
  }
  for (const std::string& schema : chat.tool_schemas()) {
    const auto tool = nlohmann::json::parse(schema, nullptr, /*allow_exceptions=*/false);
    const nlohmann::json::json_pointer name("/function/name");
    if (!tool.is_object() || !tool.contains(name) || !tool[name].is_string()) {
      return rpc::FieldError("prompt.chat.tool_schemas", absl::StrCat("holds no tool with a function and its name: ", schema));
    }
    prompt->tool_names.push_back(tool[name].get<std::string>());
  }
  const std::string& forced = chat.forced_tool();
  if (!MustCall(chat)) return absl::OkStatus();
  if (prompt->tool_names.empty()) return rpc::FieldError("prompt.chat.call_required", "is set, and there are no tools");
  if (!forced.empty() && std::find(prompt->tool_names.begin(), prompt->tool_names.end(), forced) == prompt->tool_names.end()) {
    return rpc::FieldError("prompt.chat.forced_tool", absl::StrCat("is \"", forced, "\", which is none of the tools"));
  }
  prompt->opening = text::CallOpening(format, forced);
  BERTH_ASSIGN_OR_RETURN(prompt->grammar, model.grammars->CompileCalls(chat, format));
  return absl::OkStatus();
}

int64_t CommonPrefix(absl::Span<const int32_t> a, absl::Span<const int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

// What the conversation was at the history's end: a message that a rewind cut is its kept tokens, or gone if it was not output.
std::vector<session::Message> KeptMessages(const session::History& history, const text::Tokenizer& tokenizer) {
  std::vector<session::Message> messages = history.messages;
  if (!messages.empty() && messages.back().cut) {
    session::Message& last = messages.back();
    if (last.role == "assistant") {
      // As the caller saw it come: without half a character at its end.
      text::StreamingDetokenizer detokenizer(tokenizer, /*skip_special=*/true, {});
      last.content = detokenizer.Append(absl::MakeSpan(history.tokens).subspan(last.begin, last.end - last.begin));
      last.told = last.end;
      last.cut = false;
    } else {
      messages.pop_back();
    }
  }
  return messages;
}

// How far `prompt` agrees with the first `count` messages of a conversation alone; 0 when the template does not render them.
int64_t Agreement(const std::vector<text::ChatMessage>& chat, size_t count, bool add_generation_prompt,
                  text::RenderOptions options, const ServedModel& model, const std::vector<int32_t>& prompt) {
  options.add_generation_prompt = add_generation_prompt;
  const auto alone = RenderAndEncode({chat.begin(), chat.begin() + static_cast<ptrdiff_t>(count)}, options, model);
  return alone.ok() ? CommonPrefix(*alone, prompt) : 0;
}

// Sets where each message that is not wholly inside the kept history lies in `prompt`. One that the template does not render
// without its successor belongs to that.
void PlaceMessages(const std::vector<text::ChatMessage>& chat, const text::RenderOptions& options, const ServedModel& model,
                   PreparedPrompt* prompt) {
  const int64_t length = static_cast<int64_t>(prompt->tokens.size());
  int64_t end = 0;
  for (size_t i = 0; i < prompt->messages.size(); ++i) {
    session::Message& message = prompt->messages[i];
    if (message.end == 0 || message.end > prompt->from_position) {
      message.begin = end;
      if (message.role == "assistant") message.begin = std::max(end, Agreement(chat, i, true, options, model, prompt->tokens));
      message.end = length;
      if (i + 1 < prompt->messages.size()) {
        message.end = std::max(message.begin, Agreement(chat, i + 1, false, options, model, prompt->tokens));
      }
    }
    end = message.end;
  }
  prompt->messages.back().told = length;
}

absl::StatusOr<PreparedPrompt> PrepareChat(const v1::GenerationSpec& spec, const session::History* history,
                                           const ServedModel& model) {
  PreparedPrompt prompt;
  BERTH_ASSIGN_OR_RETURN(const text::RenderOptions options, MakeRenderOptions(spec.prompt().chat(), spec));
  std::vector<text::ChatMessage> messages = MessagesOf(spec.prompt().chat());
  BERTH_RETURN_IF_ERROR(ReadTools(spec.prompt().chat(), model, &prompt));
  if (history == nullptr) {
    BERTH_ASSIGN_OR_RETURN(prompt.tokens, RenderAndEncode(messages, options, model, &prompt));
    return prompt;
  }
  prompt.messages = KeptMessages(*history, *model.tokenizer);
  const bool verbatim = std::any_of(prompt.messages.begin(), prompt.messages.end(),
                                    [](const session::Message& message) { return message.role.empty(); });
  std::vector<text::ChatMessage> conversation;
  for (const session::Message& message : prompt.messages) conversation.push_back({message.role, message.content});
  for (const text::ChatMessage& message : messages) {
    prompt.messages.push_back({.role = message.role, .content = message.content});
    conversation.push_back(message);
  }
  if (verbatim) {
    // Such a history is no conversation that a template could render: the new messages follow it.
    prompt.tokens = history->tokens;
    prompt.from_position = static_cast<int64_t>(history->tokens.size());
    BERTH_ASSIGN_OR_RETURN(const std::vector<int32_t> added, RenderAndEncode(messages, options, model, &prompt));
    prompt.tokens.insert(prompt.tokens.end(), added.begin(), added.end());
    const int64_t end = static_cast<int64_t>(prompt.tokens.size());
    for (session::Message& message : prompt.messages) {
      if (message.end == 0) message.begin = message.end = end;
    }
    prompt.messages.back().told = end;
    return prompt;
  }
  BERTH_ASSIGN_OR_RETURN(prompt.tokens, RenderAndEncode(conversation, options, model, &prompt));
  prompt.from_position = CommonPrefix(history->tokens, prompt.tokens);
  PlaceMessages(conversation, options, model, &prompt);
  return prompt;
}

absl::StatusOr<std::vector<int32_t>> EncodeVerbatim(const v1::Prompt& prompt, bool at_start, const ServedModel& model) {
  if (prompt.has_token_ids()) return std::vector<int32_t>(prompt.token_ids().ids().begin(), prompt.token_ids().ids().end());
  auto tokens = model.tokenizer->Encode(prompt.text(), {.add_special = at_start});
  if (!tokens.ok()) return rpc::FieldError("prompt.text", std::string(tokens.status().message()));
  return tokens;
}

absl::StatusOr<PreparedPrompt> PrepareInfill(const v1::InfillPrompt& infill, const ServedModel& model) {
  PreparedPrompt prompt{.continues_text = true, .end_token = model.infill->end};
  auto tokens = text::EncodeInfill(*model.tokenizer, *model.infill, infill.prefix(), infill.suffix());
  if (!tokens.ok()) return rpc::FieldError("prompt.infill", std::string(tokens.status().message()));
  prompt.tokens = *std::move(tokens);
  return prompt;
}

absl::StatusOr<PreparedPrompt> PrepareVerbatim(const v1::GenerationSpec& spec, const session::History* history,
                                               const ServedModel& model) {
  PreparedPrompt prompt{.continues_text = true};
  if (history != nullptr) {
    prompt.tokens = history->tokens;
    prompt.messages = KeptMessages(*history, *model.tokenizer);
    prompt.from_position = static_cast<int64_t>(history->tokens.size());
  }
  BERTH_ASSIGN_OR_RETURN(const std::vector<int32_t> added, EncodeVerbatim(spec.prompt(), prompt.tokens.empty(), model));
  prompt.tokens.insert(prompt.tokens.end(), added.begin(), added.end());
  if (history != nullptr) {
    // A message without a role stands for tokens that no template wrote.
    const int64_t end = static_cast<int64_t>(prompt.tokens.size());
    prompt.messages.push_back({.content = spec.prompt().text(), .begin = prompt.from_position, .end = end, .told = end});
  }
  return prompt;
}

}  // namespace

absl::StatusOr<PreparedPrompt> PreparePrompt(const v1::GenerationSpec& spec, const session::History* history,
                                             const ServedModel& model) {
  absl::StatusOr<PreparedPrompt> prompt = spec.prompt().has_chat()     ? PrepareChat(spec, history, model)
                                          : spec.prompt().has_infill() ? PrepareInfill(spec.prompt().infill(), model)
                                                                       : PrepareVerbatim(spec, history, model);
  if (!prompt.ok()) return prompt;
  if (prompt->tokens.empty()) return rpc::FieldError("prompt", "has no tokens");
  for (const std::string& word : spec.stop().bad_words()) {
    // As it stands at the start of a text, and as a word among others.
    for (const std::string& spelling : {word, absl::StrCat(" ", word)}) {
      auto tokens = model.tokenizer->Encode(spelling, {.add_special = false, .parse_special = false});
      if (!tokens.ok()) return rpc::FieldError("stop.bad_words", std::string(tokens.status().message()));
      if (!tokens->empty()) prompt->bad_words.push_back(*std::move(tokens));
    }
  }
  if (spec.has_constraint() && prompt->grammar == nullptr) {
    BERTH_ASSIGN_OR_RETURN(prompt->grammar, model.grammars->Compile(spec.constraint()));
  }
  return prompt;
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const v1::Prompt& prompt, const ServedModel& model) {
  v1::GenerationSpec spec;
  *spec.mutable_prompt() = prompt;
  BERTH_ASSIGN_OR_RETURN(PreparedPrompt prepared, PreparePrompt(spec, nullptr, model));
  return std::move(prepared.tokens);
}

}  // namespace berth::service
