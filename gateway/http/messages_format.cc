#include "gateway/http/messages_format.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gateway/http/error_body.h"
#include "gateway/http/json_text.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

const char* StopReason(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_LENGTH:
      return "max_tokens";
    case v1::FINISH_REASON_TOOL_CALLS:
      return "tool_use";
    case v1::FINISH_REASON_STOP_STRING:
      return "stop_sequence";
    default:
      return "end_turn";
  }
}

json Nullable(const std::string& text) { return text.empty() ? json(nullptr) : json(text); }

json InputUsage(int prompt_tokens, int cached_tokens, int output_tokens) {
  return {{"input_tokens", prompt_tokens - cached_tokens},
          {"cache_read_input_tokens", cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"output_tokens", output_tokens}};
}

json Message(const std::string& request_id, const std::string& model, json content, json usage) {
  return {{"id", absl::StrCat("msg_", request_id)},
          {"type", "message"},
          {"role", "assistant"},
          {"model", model},
          {"content", std::move(content)},
          {"stop_reason", nullptr},
          {"stop_sequence", nullptr},
          {"usage", std::move(usage)}};
}

json Thinking(const std::string& text) { return {{"type", "thinking"}, {"thinking", text}, {"signature", ""}}; }
json Text(const std::string& text) { return {{"type", "text"}, {"text", text}}; }
json ToolUse(const std::string& id, const std::string& name, json input) {
  return {{"type", "tool_use"}, {"id", id}, {"name", name}, {"input", std::move(input)}};
}

// What was cut off, or is no object, cannot be an input.
json ParseInput(const std::string& arguments) {
  json input = json::parse(arguments, nullptr, /*allow_exceptions=*/false);
  return input.is_object() ? input : json::object();
}

class MessagesFormat : public AnswerFormat {
 public:
  std::string Format(const v1::StreamGenerateResponse& message) override {
    if (!message.request_id().empty()) request_id_ = message.request_id();
    if (message.has_started()) return Started(message.started());
    if (message.has_delta()) return Delta(message.delta());
    if (message.has_finished()) return Finished(message.finished());
    return "";
  }

  std::string End(const absl::Status& status) override {
    if (status.ok()) return NamedEvent("message_stop", {{"type", "message_stop"}});
    return absl::StrCat("event: error\ndata: ", AnthropicErrorBody(status), "\n\n");
  }

  std::string Heartbeat() const override { return NamedEvent("ping", {{"type", "ping"}}); }

  std::string Whole(const v1::GenerateResponse& response) override {
    const v1::GenerateResponse::Choice& choice = response.choices(0);
    json content = json::array();
    if (!choice.reasoning().empty()) content.push_back(Thinking(choice.reasoning()));
    if (!choice.text().empty()) content.push_back(Text(choice.text()));
    for (const v1::ToolCall& call : choice.tool_calls()) {
      content.push_back(ToolUse(call.id(), call.name(), ParseInput(call.arguments())));
    }
    const v1::Usage& usage = response.usage();
    json message = Message(response.request_id(), response.started().model(), std::move(content),
                           InputUsage(usage.prompt_tokens(), usage.cached_tokens(), usage.completion_tokens()));
    message["stop_reason"] = StopReason(choice.finish_reason());
    message["stop_sequence"] = Nullable(choice.matched_stop());
    return Dump(message);
  }

 private:
  std::string Started(const v1::Started& started) {
    return NamedEvent("message_start", {{"type", "message_start"},
                                        {"message", Message(request_id_, started.model(), json::array(),
                                                            InputUsage(started.prompt_tokens(), started.cached_tokens(), 0))}});
  }

  std::string Delta(const v1::Delta& delta) {
    std::string events;
    switch (delta.content_case()) {
      case v1::Delta::kText:
        if (delta.text().empty()) return "";
        events = Open("text", Text(""));
        return events + Append({{"type", "text_delta"}, {"text", delta.text()}});
      case v1::Delta::kReasoning:
        events = Open("thinking", Thinking(""));
        return events + Append({{"type", "thinking_delta"}, {"thinking", delta.reasoning()}});
      case v1::Delta::kToolCall: {
        const v1::ToolCallDelta& call = delta.tool_call();
        if (!call.id().empty()) events = Open(call.id(), ToolUse(call.id(), call.name(), json::object()));
        if (call.arguments_delta().empty()) return events;
        return events + Append({{"type", "input_json_delta"}, {"partial_json", call.arguments_delta()}});
      }
      case v1::Delta::CONTENT_NOT_SET:
        return "";
    }
    return "";
  }

  std::string Finished(const v1::Finished& finished) {
    const v1::ChoiceFinished& choice = finished.choices(0);
    const json end = {{"stop_reason", StopReason(choice.reason())}, {"stop_sequence", Nullable(choice.matched_stop())}};
    const json event = {
        {"type", "message_delta"}, {"delta", end}, {"usage", {{"output_tokens", finished.usage().completion_tokens()}}}};
    return Close() + NamedEvent("message_delta", event);
  }

  // Begins a block unless the one of this name is open.
  std::string Open(const std::string& name, json block) {
    if (open_ == name) return "";
    const std::string closed = Close();
    open_ = name;
    return closed + NamedEvent("content_block_start",
                               {{"type", "content_block_start"}, {"index", index_}, {"content_block", std::move(block)}});
  }

  std::string Append(json delta) {
    return NamedEvent("content_block_delta", {{"type", "content_block_delta"}, {"index", index_}, {"delta", std::move(delta)}});
  }

  std::string Close() {
    if (open_.empty()) return "";
    open_.clear();
    return NamedEvent("content_block_stop", {{"type", "content_block_stop"}, {"index", index_++}});
  }

  std::string request_id_;
  std::string open_;  // "text", "thinking", or a call's id; "": no block is open
  int index_ = 0;     // of the open block, or of the next
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeMessagesFormat() { return std::make_unique<MessagesFormat>(); }

}  // namespace berth::http
