#include "gateway/http/response.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/http/error_body.h"
#include "gateway/http/json_text.h"
#include "nlohmann/json.hpp"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;
using Logprobs = google::protobuf::RepeatedPtrField<v1::TokenLogprob>;

json UsageOf(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"total_tokens", usage.prompt_tokens() + usage.completion_tokens()},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens()}}}};
}

// One entry of a chat's log-probabilities, alone or as an alternative.
json ChatToken(const std::string& token, float logprob) {
  json bytes = json::array();
  for (unsigned char byte : token) bytes.push_back(byte);
  return {{"token", token}, {"logprob", logprob}, {"bytes", std::move(bytes)}};
}

json ChatLogprobs(const Logprobs& logprobs) {
  json content = json::array();
  for (const v1::TokenLogprob& token : logprobs) {
    json entry = ChatToken(token.token(), token.logprob());
    json& alternatives = entry["top_logprobs"] = json::array();
    for (const auto& other : token.alternatives()) alternatives.push_back(ChatToken(other.token(), other.logprob()));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

json OutputLogprobs(const ResponseHead& head, const Logprobs& logprobs, TextPlace& place) {
  if (!head.logprobs || logprobs.empty()) return nullptr;
  if (head.chat) return ChatLogprobs(logprobs);
  TextLogprobs list;
  list.AddOutput(logprobs, place);
  return list.Take();
}

json WholeLogprobs(const ResponseHead& head, const Logprobs& prompt, const std::string& echo, const Logprobs& output) {
  TextPlace place, output_place{.characters = CountCharacters(echo)};
  if (prompt.empty()) return OutputLogprobs(head, output, place);
  TextLogprobs list;
  list.AddPrompt(prompt, echo, place);
  list.AddOutput(output, output_place);
  return list.Take();
}

json Envelope(const ResponseHead& head, const char* object, json choices) {
  return {{"id", absl::StrCat(head.chat ? "chatcmpl-" : "cmpl-", head.request_id)},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"choices", std::move(choices)}};
}

std::string Chunk(const ResponseHead& head, json choices) {
  json chunk = Envelope(head, head.chat ? "chat.completion.chunk" : "text_completion", std::move(choices));
  if (head.include_usage) chunk["usage"] = nullptr;
  return DataEvent(chunk);
}

// `content` is the delta of a chat or the text of a completion.
std::string ChoiceChunk(const ResponseHead& head, int index, json content, json logprobs, json finish_reason) {
  json choice = {{"index", index}, {"logprobs", std::move(logprobs)}, {"finish_reason", std::move(finish_reason)}};
  choice[head.chat ? "delta" : "text"] = std::move(content);
  return Chunk(head, json::array({std::move(choice)}));
}

json ToolCalls(const v1::GenerateResponse::Choice& choice) {
  json calls = json::array();
  for (const v1::ToolCall& call : choice.tool_calls()) {
    calls.push_back(
        {{"id", call.id()}, {"type", "function"}, {"function", {{"name", call.name()}, {"arguments", call.arguments()}}}});
  }
  return calls;
}

json MessageOf(const v1::GenerateResponse::Choice& choice) {
  json message = {{"role", "assistant"}, {"content", choice.text()}, {"refusal", nullptr}};
  if (choice.text().empty() && choice.tool_calls_size() > 0) message["content"] = nullptr;
  if (!choice.reasoning().empty()) message["reasoning_content"] = choice.reasoning();
  if (choice.tool_calls_size() > 0) message["tool_calls"] = ToolCalls(choice);
  return message;
}

json ModelEntry(const v1::Model& model, int64_t created) {
  return {{"id", model.name()},
          {"object", "model"},
          {"created", created},
          {"owned_by", "berth"},
          {"root", model.name()},
          {"parent", nullptr},
          {"max_model_len", model.context_length()}};
}

}  // namespace

std::string FinishName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_TOOL_CALLS:
      return "tool_calls";
    case v1::FINISH_REASON_CANCELLED:
    case v1::FINISH_REASON_DEADLINE:
      return "abort";
    default:
      return "stop";
  }
}

EventFormatter::EventFormatter(ResponseHead head) : head_(std::move(head)) {}

const std::string& EventFormatter::EchoOf(int choice) const {
  static const std::string& nothing = *new std::string;
  return head_.echoes.empty() ? nothing : head_.echoes[choice / head_.choice_count];
}

std::string EventFormatter::TakeEcho(int choice) { return echoed_.insert(choice).second ? EchoOf(choice) : ""; }

std::string EventFormatter::Format(const v1::StreamGenerateResponse& message) {
  if (!message.request_id().empty()) head_.request_id = message.request_id();
  if (message.has_started()) return FormatStarted(message.started());
  if (message.has_delta()) return FormatDelta(message.delta());
  if (message.has_finished()) return FormatFinished(message.finished());
  // A comment, which OpenAI's clients skip.
  if (message.has_resumed()) return absl::StrCat(": resumed on ", message.resumed().worker_id(), "\n\n");
  return "";
}

std::string EventFormatter::FormatStarted(const v1::Started& started) {
  head_.model = started.model();
  std::string events;
  for (int i = 0; i < head_.choice_count && head_.chat; ++i) {
    events += ChoiceChunk(head_, i, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
  }
  return events;
}

// Every choice of the prompt repeats it. Their outputs begin behind the echo.
std::string EventFormatter::FormatPrompt(const v1::Delta& delta) {
  const int first = delta.choice_index();
  const std::string& echo = EchoOf(first);
  TextLogprobs list;
  list.AddPrompt(delta.prompt_logprobs(), echo, prompt_places_[first]);
  const json logprobs = list.Take();
  std::string events;
  for (int i = first; i < first + head_.choice_count; ++i) {
    events += ChoiceChunk(head_, i, TakeEcho(i), logprobs, nullptr);
    places_[i].characters = CountCharacters(echo);
  }
  return events;
}

std::string EventFormatter::FormatDelta(const v1::Delta& delta) {
  if (delta.prompt_logprobs_size() > 0) return FormatPrompt(delta);
  json content = head_.chat ? "" : TakeEcho(delta.choice_index()) + delta.text();
  if (head_.chat) {
    content = json::object();
    if (delta.has_text()) content["content"] = delta.text();
    if (delta.has_reasoning()) content["reasoning_content"] = delta.reasoning();
    if (delta.has_tool_call()) {
      const v1::ToolCallDelta& call = delta.tool_call();
      json entry = {{"index", call.index()}, {"function", {{"arguments", call.arguments_delta()}}}};
      if (!call.id().empty()) entry["id"] = call.id();
      if (!call.id().empty()) entry["type"] = "function";
      if (!call.name().empty()) entry["function"]["name"] = call.name();
      content["tool_calls"] = json::array({std::move(entry)});
    }
  }
  json logprobs = OutputLogprobs(head_, delta.logprobs(), places_[delta.choice_index()]);
  return ChoiceChunk(head_, delta.choice_index(), std::move(content), std::move(logprobs), nullptr);
}

std::string EventFormatter::FormatFinished(const v1::Finished& finished) {
  std::string events;
  for (const v1::ChoiceFinished& end : finished.choices()) {
    events += ChoiceChunk(head_, end.choice_index(), head_.chat ? json::object() : json(TakeEcho(end.choice_index())), nullptr,
                          FinishName(end.reason()));
  }
  if (++finished_prompts_ == head_.prompt_count && head_.include_usage) {
    json chunk = Envelope(head_, head_.chat ? "chat.completion.chunk" : "text_completion", json::array());
    chunk["usage"] = UsageOf(finished.usage());
    events += DataEvent(chunk);
  }
  return events;
}

std::string EventFormatter::End(const absl::Status& status) {
  constexpr char kDone[] = "data: [DONE]\n\n";
  if (status.ok()) return kDone;
  return absl::StrCat("data: ", ErrorBody(status), "\n\n", kDone);
}

std::string EventFormatter::Whole(const v1::GenerateResponse& response) {
  head_.request_id = response.request_id();
  head_.model = response.started().model();
  json choices = json::array();
  for (const v1::GenerateResponse::Choice& choice : response.choices()) {
    const v1::GenerateResponse::Choice& first = response.choices(choice.index() / head_.choice_count * head_.choice_count);
    json entry = {{"index", choice.index()},
                  {"logprobs", WholeLogprobs(head_, first.prompt_logprobs(), EchoOf(choice.index()), choice.logprobs())},
                  {"finish_reason", FinishName(choice.finish_reason())}};
    if (head_.chat) {
      entry["message"] = MessageOf(choice);
    } else {
      entry["text"] = TakeEcho(choice.index()) + choice.text();
    }
    choices.push_back(std::move(entry));
  }
  json body = Envelope(head_, head_.chat ? "chat.completion" : "text_completion", std::move(choices));
  body["usage"] = UsageOf(response.usage());
  return Dump(body);
}

std::string FormatModels(const std::vector<v1::Model>& models, int64_t created) {
  json data = json::array();
  for (const v1::Model& model : models) data.push_back(ModelEntry(model, created));
  return Dump({{"object", "list"}, {"data", std::move(data)}});
}

std::string FormatModel(const v1::Model& model, int64_t created) { return Dump(ModelEntry(model, created)); }

}  // namespace berth::http
