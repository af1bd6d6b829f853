#include "gateway/http/token_endpoints.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "gateway/http/generation_fields.h"
#include "gateway/http/json_text.h"
#include "gateway/http/messages_request.h"
#include "gateway/http/tool_fields.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;
using TokenLists = std::vector<std::vector<int32_t>>;

constexpr size_t kMaxInputs = 128;

// Lets `read` take what it wants of the body. False: that, or the body itself, is wrong, and the exchange is answered.
bool ReadBody(Exchange& exchange, absl::FunctionRef<void(JsonFields&)> read) {
  absl::StatusOr<json> object = ParseObject(exchange.body());
  absl::Status status = object.status();
  if (status.ok()) {
    JsonFields fields(*object);
    read(fields);
    status = fields.status();
  }
  if (!status.ok()) exchange.Fail(status);
  return status.ok();
}

// Asks for all at once. `done` makes the answer's body, on the exchange's strand; the first error fails the whole.
void TokenizeAll(Exchange& exchange, std::vector<v1::TokenizeRequest> requests, std::function<json(const TokenLists&)> done) {
  struct State {
    TokenLists lists;
    size_t missing;
    bool failed = false;
  };
  auto state = std::make_shared<State>(State{.lists = TokenLists(requests.size()), .missing = requests.size()});
  // Weakly: a worker's answer may come when the server is gone.
  exchange.context().generation.shard.Post([weak = exchange.weak_from_this(), state, requests = std::move(requests), done] {
    const auto self = weak.lock();
    for (size_t i = 0; self != nullptr && i < requests.size(); ++i) {
      self->context().workers.tokenize(
          self->tenant()->name, requests[i],
          [weak, state, i, done](const absl::Status& status, const v1::TokenizeResponse& response) {
            const auto self = weak.lock();
            if (self == nullptr || state->failed) return;
            state->failed = !status.ok();
            if (!status.ok()) return self->Post([self, status] { self->Fail(status); });
            state->lists[i].assign(response.token_ids().begin(), response.token_ids().end());
            if (--state->missing > 0) return;
            self->Post([self, state, done] { self->Answer({.body = Dump(done(state->lists))}); });
          });
    }
  });
}

// Of `input`, a text or an array of texts. `preprocess`: as what a user says to the model.
std::vector<v1::TokenizeRequest> ReadInputs(JsonFields& fields, const v1::TokenizeRequest& base, bool preprocess) {
  std::vector<v1::TokenizeRequest> requests;
  const std::vector<std::string> texts = fields.Strings("input");
  if (texts.empty()) fields.Fail("input", "must be a string or a non-empty array of strings");
  if (texts.size() > kMaxInputs) {
    fields.Fail("input", absl::StrCat("holds ", texts.size(), " texts, at most ", kMaxInputs, " are allowed"));
  }
  for (const std::string& text : texts) {
    v1::TokenizeRequest& request = requests.emplace_back(base);
    if (!preprocess) {
      request.mutable_prompt()->set_text(text);
      continue;
    }
    v1::ChatMessage& message = *request.mutable_prompt()->mutable_chat()->add_messages();
    message.set_role("user");
    message.set_content(text);
  }
  return requests;
}

}  // namespace

void Tokenize(Exchange& exchange) {
  v1::TokenizeRequest request;
  const auto read = [&](JsonFields& fields) {
    request.set_model(fields.String("model").value_or(""));
    const std::optional<std::string> prompt = fields.String("prompt");
    if (prompt.has_value() == (fields.Find("messages") != nullptr)) {
      fields.Fail("prompt", "or messages: one of the two is required");
    } else if (prompt.has_value()) {
      request.mutable_prompt()->set_text(*prompt);
    } else {
      v1::ChatPrompt& chat = *request.mutable_prompt()->mutable_chat();
      ReadChatMessages(fields, "messages", chat);
      ReadTools(fields, exchange.body(), ToolStyle::kChat, chat);
      ReadTemplateVariables(fields, chat);
      if (const auto value = fields.Bool("add_generation_prompt")) chat.set_add_generation_prompt(*value);
    }
  };
  if (!ReadBody(exchange, read)) return;
  TokenizeAll(exchange, {std::move(request)}, [](const TokenLists& lists) {
    return json{{"tokens", lists[0]}, {"count", lists[0].size()}};
  });
}

void Detokenize(Exchange& exchange) {
  v1::DetokenizeRequest request;
  const auto read = [&](JsonFields& fields) {
    request.set_model(fields.String("model").value_or(""));
    if (fields.Array("tokens") == nullptr) fields.Fail("tokens", "is required");
    for (const int32_t id : fields.Int32s("tokens")) request.add_token_ids(id);
    if (const auto value = fields.Bool("skip_special_tokens")) request.set_skip_special_tokens(*value);
  };
  if (!ReadBody(exchange, read)) return;
  exchange.context().generation.shard.Post([weak = exchange.weak_from_this(), request] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->context().workers.detokenize(self->tenant()->name, request,
                                       [weak](const absl::Status& status, const v1::DetokenizeResponse& response) {
                                         const auto self = weak.lock();
                                         if (self == nullptr) return;
                                         self->Post([self, status, text = response.text()] {
                                           if (!status.ok()) return self->Fail(status);
                                           self->Answer({.body = Dump({{"prompt", text}})});
                                         });
                                       });
  });
}

void Encode(Exchange& exchange) {
  std::vector<v1::TokenizeRequest> requests;
  bool several = false;
  const auto read = [&](JsonFields& fields) {
    v1::TokenizeRequest base;
    base.set_model(fields.String("model").value_or(""));
    requests = ReadInputs(fields, base, fields.Bool("do_preprocess").value_or(false));
    if (!fields.Bool("add_bos").value_or(true)) fields.Fail("add_bos", "is not supported unless it is true");
    const json* const input = fields.Find("input");
    several = input != nullptr && input->is_array();
  };
  if (!ReadBody(exchange, read)) return;
  TokenizeAll(exchange, std::move(requests), [several](const TokenLists& lists) -> json {
    if (!several) return {{"input_ids", lists[0]}, {"length", lists[0].size()}};
    std::vector<size_t> lengths;
    for (const std::vector<int32_t>& list : lists) lengths.push_back(list.size());
    return {{"input_ids", lists}, {"length", std::move(lengths)}};
  });
}

void CountTokens(Exchange& exchange) {
  absl::StatusOr<v1::TokenizeRequest> request = ParseCountRequest(exchange.body());
  if (!request.ok()) return exchange.Fail(request.status());
  TokenizeAll(exchange, {*std::move(request)}, [](const TokenLists& lists) { return json{{"input_tokens", lists[0].size()}}; });
}

}  // namespace berth::http
