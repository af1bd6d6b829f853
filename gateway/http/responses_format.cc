#include "gateway/http/responses_format.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/http/error_body.h"
#include "gateway/http/json_text.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

json ResponseUsage(const v1::Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens()},
          {"input_tokens_details", {{"cached_tokens", usage.cached_tokens()}}},
          {"output_tokens", usage.completion_tokens()},
          {"output_tokens_details", {{"reasoning_tokens", 0}}},
          {"total_tokens", usage.prompt_tokens() + usage.completion_tokens()}};
}

json TextPart(const std::string& text) {
  return {{"type", "output_text"}, {"text", text}, {"annotations", json::array()}, {"logprobs", json::array()}};
}
json ReasoningPart(const std::string& text) { return {{"type", "reasoning_text"}, {"text", text}}; }

class ResponsesFormat : public AnswerFormat {
 public:
  ResponsesFormat(const json& request, int64_t created) {
    const auto given = [&request](const char* name, json otherwise) {
      const auto it = request.find(name);
      return it == request.end() || it->is_null() ? std::move(otherwise) : *it;
    };
    response_ = {{"object", "response"},
                 {"created_at", created},
                 {"status", "in_progress"},
                 {"error", nullptr},
                 {"incomplete_details", nullptr},
                 {"instructions", given("instructions", nullptr)},
                 {"max_output_tokens", given("max_output_tokens", nullptr)},
                 {"metadata", given("metadata", json::object())},
                 {"model", given("model", "")},
                 {"output", json::array()},
                 {"parallel_tool_calls", given("parallel_tool_calls", true)},
                 {"previous_response_id", nullptr},
                 {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
                 {"store", false},
                 {"temperature", given("temperature", 1.0)},
                 {"text", {{"format", {{"type", "text"}}}}},
                 {"tool_choice", given("tool_choice", "auto")},
                 {"tools", given("tools", json::array())},
                 {"top_p", given("top_p", 1.0)},
                 {"truncation", "disabled"},
                 {"usage", nullptr},
                 {"user", given("user", nullptr)}};
  }

  std::string Format(const v1::StreamGenerateResponse& message) override {
    if (!message.request_id().empty()) SetId(message.request_id());
    if (message.has_started()) return Started(message.started());
    if (message.has_delta()) return Delta(message.delta());
    if (message.has_finished()) return Finished(message.finished());
    return "";
  }

  std::string End(const absl::Status& status) override {
    if (status.ok()) return "";
    const json error = json::parse(ErrorBody(status))["error"];
    response_["status"] = "failed";
    response_["error"] = {{"code", error["code"].is_null() ? error["type"] : error["code"]}, {"message", error["message"]}};
    return Event("response.failed", {{"response", response_}});
  }

  std::string Whole(const v1::GenerateResponse& response) override {
    SetId(response.request_id());
    response_["model"] = response.started().model();
    const v1::GenerateResponse::Choice& choice = response.choices(0);
    if (!choice.reasoning().empty()) Keep("reasoning", choice.reasoning());
    if (!choice.text().empty() || choice.tool_calls().empty()) Keep("message", choice.text());
    for (const v1::ToolCall& call : choice.tool_calls()) {
      BeginItem("function_call", call.id(), call.name());
      text_ = call.arguments();
      KeepItem();
    }
    Complete(choice.finish_reason(), response.usage());
    return Dump(response_);
  }

 private:
  void SetId(const std::string& request_id) {
    id_ = request_id;
    response_["id"] = absl::StrCat("resp_", request_id);
  }

  std::string Event(const char* type, json event) {
    event["type"] = type;
    event["sequence_number"] = sequence_++;
    return NamedEvent(type, event);
  }
  // Of the item at hand.
  std::string ItemEvent(const char* type, json event) {
    event["output_index"] = response_["output"].size();
    event["item_id"] = item_["id"];
    return Event(type, std::move(event));
  }
  std::string PartEvent(const char* type, json event) {
    event["content_index"] = 0;
    return ItemEvent(type, std::move(event));
  }

  std::string Started(const v1::Started& started) {
    response_["model"] = started.model();
    const std::string created = Event("response.created", {{"response", response_}});
    return created + Event("response.in_progress", {{"response", response_}});
  }

  std::string Delta(const v1::Delta& delta) {
    if (delta.has_text()) {
      if (delta.text().empty()) return "";
      const std::string begun = Begin("message", "", "");
      text_ += delta.text();
      return begun + PartEvent("response.output_text.delta", {{"delta", delta.text()}, {"logprobs", json::array()}});
    }
    if (delta.has_reasoning()) {
      const std::string begun = Begin("reasoning", "", "");
      text_ += delta.reasoning();
      return begun + PartEvent("response.reasoning_text.delta", {{"delta", delta.reasoning()}});
    }
    if (!delta.has_tool_call()) return "";
    const v1::ToolCallDelta& call = delta.tool_call();
    std::string events;
    if (!call.id().empty()) events = Begin("function_call", call.id(), call.name());
    if (call.arguments_delta().empty()) return events;
    text_ += call.arguments_delta();
    return events + ItemEvent("response.function_call_arguments.delta", {{"delta", call.arguments_delta()}});
  }

  std::string Finished(const v1::Finished& finished) {
    std::string events;
    if (response_["output"].empty() && item_.is_null()) events = Begin("message", "", "");
    events += EndItem();
    Complete(finished.choices(0).reason(), finished.usage());
    const bool whole = response_["status"] == "completed";
    return events + Event(whole ? "response.completed" : "response.incomplete", {{"response", response_}});
  }

  void Complete(v1::FinishReason reason, const v1::Usage& usage) {
    response_["status"] = reason == v1::FINISH_REASON_LENGTH ? "incomplete" : "completed";
    if (reason == v1::FINISH_REASON_LENGTH) response_["incomplete_details"] = {{"reason", "max_output_tokens"}};
    response_["usage"] = ResponseUsage(usage);
  }

  void BeginItem(const std::string& type, const std::string& call_id, const std::string& name) {
    text_.clear();
    const std::string prefix = type == "message" ? "msg" : type == "reasoning" ? "rs" : "fc";
    item_ = {
        {"type", type}, {"id", absl::StrCat(prefix, "_", id_, "_", response_["output"].size())}, {"status", "in_progress"}};
    if (type == "message") item_.update({{"role", "assistant"}, {"content", json::array()}});
    if (type == "reasoning") item_.update({{"summary", json::array()}, {"content", json::array()}});
    if (type == "function_call") item_.update({{"call_id", call_id}, {"name", name}, {"arguments", ""}});
  }

  // Begins an item unless one of its kind, other than a call, is open.
  std::string Begin(const std::string& type, const std::string& call_id, const std::string& name) {
    if (!item_.is_null() && item_["type"] == type && type != "function_call") return "";
    std::string events = EndItem();
    BeginItem(type, call_id, name);
    events += Event("response.output_item.added", {{"output_index", response_["output"].size()}, {"item", item_}});
    if (type != "function_call") events += PartEvent("response.content_part.added", {{"part", Part("")}});
    return events;
  }

  std::string EndItem() {
    if (item_.is_null()) return "";
    const std::string type = item_["type"];
    std::string events;
    if (type == "function_call") {
      events = ItemEvent("response.function_call_arguments.done", {{"arguments", text_}, {"name", item_["name"]}});
    } else {
      const bool message = type == "message";
      json done = {{"text", text_}};
      if (message) done["logprobs"] = json::array();
      events = PartEvent(message ? "response.output_text.done" : "response.reasoning_text.done", std::move(done));
      events += PartEvent("response.content_part.done", {{"part", Part(text_)}});
    }
    const size_t index = response_["output"].size();
    KeepItem();
    return events + Event("response.output_item.done", {{"output_index", index}, {"item", response_["output"].back()}});
  }

  json Part(const std::string& text) const { return item_["type"] == "message" ? TextPart(text) : ReasoningPart(text); }

  // The item is whole.
  void KeepItem() {
    item_["status"] = "completed";
    if (item_["type"] == "function_call") {
      item_["arguments"] = text_;
    } else {
      item_["content"] = json::array({Part(text_)});
    }
    response_["output"].push_back(std::exchange(item_, nullptr));
  }

  void Keep(const char* type, const std::string& text) {
    BeginItem(type, "", "");
    text_ = text;
    KeepItem();
  }

  json response_;
  std::string id_;
  json item_;         // at hand; null: none
  std::string text_;  // of it
  int64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<AnswerFormat> MakeResponsesFormat(const json& request, int64_t created) {
  return std::make_unique<ResponsesFormat>(request, created);
}

}  // namespace berth::http
