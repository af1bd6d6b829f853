#include "gateway/http/native_format.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/http/error_body.h"
#include "gateway/http/json_text.h"
#include "gateway/http/response.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

class InteractiveFormat : public AnswerFormat {
 public:
  std::string Format(const v1::StreamGenerateResponse& message) override {
    if (message.has_started()) TakeStarted(message.started());
    if (message.has_delta()) {
      tokens_ += message.delta().token_ids_size();
      return Line(message.delta().text(), "");
    }
    return message.has_finished() ? Line("", FinishName(message.finished().choices(0).reason())) : "";
  }
  std::string End(const absl::Status& status) override { return status.ok() ? "" : ErrorBody(status) + "\n"; }
  std::string Heartbeat() const override { return ""; }
  std::string Whole(const v1::GenerateResponse& response) override {
    const v1::GenerateResponse::Choice& choice = response.choices(0);
    TakeStarted(response.started());
    tokens_ = choice.token_ids_size();
    return Dump(Answer(choice.text(), FinishName(choice.finish_reason())));
  }

 private:
  std::string Line(const std::string& text, const std::string& reason) const { return Dump(Answer(text, reason)) + "\n"; }
  // What the session had before the turn is not its input.
  void TakeStarted(const v1::Started& started) {
    history_tokens_ = started.history_tokens();
    input_tokens_ = started.prompt_tokens() - history_tokens_;
  }
  json Answer(const std::string& text, const std::string& reason) const {
    return InteractiveAnswer(text, tokens_, input_tokens_, history_tokens_, reason);
  }

  int64_t tokens_ = 0, input_tokens_ = 0, history_tokens_ = 0;
};

class GenerateFormat : public AnswerFormat {
 public:
  explicit GenerateFormat(bool logprobs) : logprobs_(logprobs) {}

  std::string Format(const v1::StreamGenerateResponse& message) override {
    if (message.has_started()) prompt_tokens_ = message.started().prompt_tokens();
    if (message.has_delta()) {
      const v1::Delta& delta = message.delta();
      tokens_ += delta.token_ids_size();
      return DataEvent(Answer(delta.text(), delta.token_ids(), delta.logprobs(), nullptr));
    }
    if (!message.has_finished()) return "";
    return DataEvent(Answer("", {}, {}, {{"type", FinishName(message.finished().choices(0).reason())}}));
  }
  std::string End(const absl::Status& status) override {
    const std::string error = status.ok() ? "" : absl::StrCat("data: ", ErrorBody(status), "\n\n");
    return error + "data: [DONE]\n\n";
  }
  std::string Whole(const v1::GenerateResponse& response) override {
    const v1::GenerateResponse::Choice& choice = response.choices(0);
    prompt_tokens_ = response.usage().prompt_tokens();
    tokens_ = response.usage().completion_tokens();
    return Dump(Answer(choice.text(), choice.token_ids(), choice.logprobs(), {{"type", FinishName(choice.finish_reason())}}));
  }

 private:
  json Answer(const std::string& text, const google::protobuf::RepeatedField<int32_t>& ids,
              const google::protobuf::RepeatedPtrField<v1::TokenLogprob>& logprobs, json reason) const {
    json meta = {{"prompt_tokens", prompt_tokens_}, {"completion_tokens", tokens_}, {"finish_reason", std::move(reason)}};
    if (logprobs_) {
      json& list = meta["output_token_logprobs"] = json::array();
      for (int i = 0; i < logprobs.size() && i < ids.size(); ++i) list.push_back({logprobs[i].logprob(), ids[i]});
    }
    return {{"text", text}, {"output_ids", json(std::vector<int32_t>(ids.begin(), ids.end()))}, {"meta_info", std::move(meta)}};
  }

  const bool logprobs_;
  int tokens_ = 0, prompt_tokens_ = 0;
};

}  // namespace

json InteractiveAnswer(const std::string& text, int64_t tokens, int64_t input_tokens, int64_t history_tokens,
                       const std::string& reason) {
  return {{"text", text},
          {"tokens", tokens},
          {"input_tokens", input_tokens},
          {"history_tokens", history_tokens},
          {"finish_reason", reason.empty() ? json(nullptr) : json(reason)}};
}

std::unique_ptr<AnswerFormat> MakeInteractiveFormat() { return std::make_unique<InteractiveFormat>(); }
std::unique_ptr<AnswerFormat> MakeGenerateFormat(bool logprobs) { return std::make_unique<GenerateFormat>(logprobs); }

}  // namespace berth::http
