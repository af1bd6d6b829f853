#include "gateway/http/token_endpoints.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway/http/ask_workers.h"
#include "gateway/http/generation_fields.h"
#include "gateway/http/json_text.h"
#include "gateway/http/messages_request.h"
#include "gateway/http/tool_fields.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;
using TokenLists = std::vector<std::vector<int32_t>>;

constexpr size_t kMaxInputs = 128;

// `answer` makes the body of the texts' ids.
void TokenizeAll(Exchange& exchange, std::vector<v1::TokenizeRequest> requests, std::function<json(const TokenLists&)> answer) {
  AskWorkers(exchange, &WorkerCalls::tokenize, std::move(requests),
             [answer = std::move(answer)](Exchange& self, const std::vector<v1::TokenizeResponse>& texts) {
               TokenLists lists;
               for (const v1::TokenizeResponse& text : texts) {
                 lists.emplace_back(text.token_ids().begin(), text.token_ids().end());
               }
               self.Answer({.body = Dump(answer(lists))});
             });
}

// Of `input`, a text or an array of texts. `preprocess`: as what a user says to the model.
std::vector<v1::TokenizeRequest> ReadInputs(JsonFields& fields, const v1::TokenizeRequest& base, bool preprocess) {
  std::vector<v1::TokenizeRequest> requests;
  const std::vector<std::string> texts = fields.Strings("input");
  if (texts.empty()) fields.Fail("input", "must be a string or a non-empty array of strings");
  if (std::find(texts.begin(), texts.end(), "") != texts.end()) fields.Fail("input", "holds an empty text");
  if (texts.size() > kMaxInputs) {
    fields.Fail("input", absl::StrCat("holds ", texts.size(), " texts, at most ", kMaxInputs, " are allowed"));
  }
  for (const std::string& text : texts) {
    v1::TokenizeRequest& request = requests.emplace_back(base);
    if (preprocess) {
      AddMessage(*request.mutable_prompt()->mutable_chat(), "user").set_content(text);
    } else {
      request.mutable_prompt()->set_text(text);
    }
  }
  return requests;
}

}  // namespace

v1::TokenizeRequest ReadTokenize(JsonFields& fields) {
  v1::TokenizeRequest request;
  request.set_model(fields.String("model").value_or(""));
  const std::optional<std::string> prompt = fields.String("prompt");
  const bool conversation = fields.Find("messages") != nullptr;
  if (prompt.has_value() == conversation) fields.Fail("prompt", "or messages: one of the two is required");
  v1::ChatPrompt chat;
  if (conversation) ReadChatMessages(fields, "messages", chat);
  ReadTools(fields, ToolStyle::kChat, chat);
  ReadTemplateVariables(fields, chat);
  if (const auto value = fields.Bool("add_generation_prompt")) chat.set_add_generation_prompt(*value);
  if (conversation) {
    *request.mutable_prompt()->mutable_chat() = std::move(chat);
  } else {
    request.mutable_prompt()->set_text(prompt.value_or(""));
  }
  return request;
}

void Tokenize(Exchange& exchange) {
  std::optional<v1::TokenizeRequest> request = ReadBody(exchange, ReadTokenize);
  if (!request.has_value()) return;
  TokenizeAll(exchange, {*std::move(request)}, [](const TokenLists& lists) {
    return json{{"tokens", lists[0]}, {"count", lists[0].size()}};
  });
}

v1::DetokenizeRequest ReadDetokenize(JsonFields& fields) {
  v1::DetokenizeRequest request;
  request.set_model(fields.String("model").value_or(""));
  if (fields.Array("tokens") == nullptr) fields.Fail("tokens", "is required");
  for (const int32_t id : fields.Int32s("tokens")) request.add_token_ids(id);
  if (const auto value = fields.Bool("skip_special_tokens")) request.set_skip_special_tokens(*value);
  return request;
}

void Detokenize(Exchange& exchange) {
  std::optional<v1::DetokenizeRequest> request = ReadBody(exchange, ReadDetokenize);
  if (!request.has_value()) return;
  AskWorkers(exchange, &WorkerCalls::detokenize, std::vector{*std::move(request)},
             [](Exchange& self, const std::vector<v1::DetokenizeResponse>& texts) {
               self.Answer({.body = Dump({{"prompt", texts[0].text()}})});
             });
}

EncodeRequest ReadEncode(JsonFields& fields) {
  v1::TokenizeRequest base;
  base.set_model(fields.String("model").value_or(""));
  EncodeRequest request{.texts = ReadInputs(fields, base, fields.Bool("do_preprocess").value_or(false))};
  if (!fields.Bool("add_bos").value_or(true)) fields.Fail("add_bos", "is false, only true is supported");
  const json* const input = fields.Find("input");
  request.several = input != nullptr && input->is_array();
  return request;
}

void Encode(Exchange& exchange) {
  std::optional<EncodeRequest> request = ReadBody(exchange, ReadEncode);
  if (!request.has_value()) return;
  TokenizeAll(exchange, std::move(request->texts), [several = request->several](const TokenLists& lists) -> json {
    if (!several) return {{"input_ids", lists[0]}, {"length", lists[0].size()}};
    std::vector<size_t> lengths;
    for (const std::vector<int32_t>& list : lists) lengths.push_back(list.size());
    return {{"input_ids", lists}, {"length", std::move(lengths)}};
  });
}

void CountTokens(Exchange& exchange) {
  std::optional<v1::TokenizeRequest> request = ReadBody(exchange, ReadCountTokens);
  if (!request.has_value()) return;
  TokenizeAll(exchange, {*std::move(request)}, [](const TokenLists& lists) { return json{{"input_tokens", lists[0].size()}}; });
}

}  // namespace berth::http
