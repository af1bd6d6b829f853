#include "gateway/http/endpoints.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/http/ask_workers.h"
#include "gateway/http/embeddings.h"
#include "gateway/http/messages_request.h"
#include "gateway/http/native_request.h"
#include "gateway/http/openapi.h"
#include "gateway/http/page.h"
#include "gateway/http/request.h"
#include "gateway/http/response.h"
#include "gateway/http/responses_request.h"
#include "gateway/http/token_endpoints.h"
#include "gateway/routing/cluster_view.h"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

constexpr char kModels[] = "/v1/models";

int64_t Now(Exchange& exchange) { return absl::ToUnixSeconds(exchange.context().generation.clock.Now()); }

template <typename Read>
void Generate(Exchange& exchange, Read read) {
  if (std::optional<GenerationCall> call = ReadBody(exchange, read)) exchange.Generate(*std::move(call));
}

void Chat(Exchange& exchange) {
  Generate(exchange, [&](JsonFields& fields) { return ToCall(ReadChatCompletion(fields), Now(exchange)); });
}

// A worker knows the text of an echo of token ids.
void Text(Exchange& exchange) {
  std::optional<CompletionRequest> request = ReadBody(exchange, ReadTextCompletion);
  if (!request.has_value()) return;
  std::vector<v1::DetokenizeRequest> encoded;
  for (const v1::Prompt& prompt : request->echoes) {
    if (!prompt.has_token_ids()) continue;
    v1::DetokenizeRequest& ask = encoded.emplace_back();
    ask.set_model(request->spec.model());
    *ask.mutable_token_ids() = prompt.token_ids().ids();
    const v1::OutputOptions& output = request->spec.output();
    if (output.has_skip_special_tokens()) ask.set_skip_special_tokens(output.skip_special_tokens());
  }
  AskWorkers(exchange, &WorkerCalls::detokenize, std::move(encoded),
             [request = *std::move(request)](Exchange& self, const std::vector<v1::DetokenizeResponse>& decoded) mutable {
               auto next = decoded.begin();
               for (v1::Prompt& prompt : request.echoes) {
                 if (prompt.has_token_ids()) prompt.set_text((next++)->text());
               }
               self.Generate(ToCall(std::move(request), Now(self)));
             });
}

void Responses(Exchange& exchange) {
  Generate(exchange, [&](JsonFields& fields) { return ReadResponses(fields, Now(exchange)); });
}
void Messages(Exchange& exchange) { Generate(exchange, ReadMessages); }
void NativeGenerate(Exchange& exchange) { Generate(exchange, ReadGenerate); }

void Health(Exchange& exchange) {
  if (!exchange.context().ready()) return exchange.Fail(absl::UnavailableError("the gateway takes no requests"));
  const relay::Relay& relay = exchange.context().generation.relay;
  exchange.context().generation.shard.Post([self = exchange.shared_from_this(), &relay] {
    bool healthy = false;
    for (int i = 0; i < relay.view().size(); ++i) healthy |= relay.view().MayTakeNew(i);
    self->Post([self, healthy] {
      if (healthy) return self->Answer({.body = R"({"status":"healthy"})"});
      self->Fail(absl::UnavailableError("no worker can take requests"));
    });
  });
}

void ListModels(Exchange& exchange, std::string name) {
  const relay::Relay& relay = exchange.context().generation.relay;
  exchange.context().generation.shard.Post([self = exchange.shared_from_this(), &relay, name = std::move(name)] {
    self->Post([self, models = relay.view().Models(), name] {
      const int64_t created = 0;
      if (name.empty()) return self->Answer({.body = FormatModels(models, created)});
      for (const v1::Model& model : models) {
        if (model.name() == name) return self->Answer({.body = FormatModel(model, created)});
      }
      self->Fail(rpc::ErrorWithReason(absl::StatusCode::kNotFound, "MODEL_NOT_FOUND",
                                      absl::StrCat("the model \"", name, "\" does not exist")));
    });
  });
}

void Models(Exchange& exchange) { ListModels(exchange, ""); }
void Model(Exchange& exchange) { ListModels(exchange, exchange.path().substr(sizeof(kModels))); }

void Page(Exchange& exchange) {
  const PageFile* file = FindPageFile(exchange.path());
  if (file == nullptr) return exchange.Fail(absl::NotFoundError(absl::StrCat("there is nothing at ", exchange.path())));
  const bool unchanged = IsUnchanged(*file, exchange.header("If-None-Match"));
  exchange.Answer({.code = unchanged ? 304 : 200,
                   .body = unchanged ? "" : std::string(file->body),
                   .content_type = std::string(file->content_type),
                   .headers = {{"ETag", std::string(file->etag)},
                               {"Cache-Control", "no-cache"},
                               {"Content-Security-Policy", kPagePolicy},
                               {"Referrer-Policy", "no-referrer"},
                               {"X-Content-Type-Options", "nosniff"}}});
}

void OpenApi(Exchange& exchange) { exchange.Answer({.body = OpenApiDocument()}); }

void Docs(Exchange& exchange) {
  exchange.Answer({.body = DocumentationPage(),
                   .content_type = "text/html; charset=utf-8",
                   .headers = {{"Content-Security-Policy", "default-src 'none'; style-src 'self'"}}});
}

void DocsStyle(Exchange& exchange) {
  exchange.Answer({.body = std::string(DocumentationStyle()), .content_type = "text/css; charset=utf-8"});
}

constexpr Endpoint kEndpoints[] = {
    {"GET", "/", true, Page},
    {"GET", "/web/", true, Page},
    {"GET", "/health", true, Health},
    {"GET", "/openapi.json", true, OpenApi},
    {"GET", "/docs", true, Docs},
    {"GET", "/docs/style.css", true, DocsStyle},
    {"GET", kModels, false, Models},
    {"GET", "/v1/models/", false, Model},
    {"POST", "/v1/chat/completions", false, Chat},
    {"POST", "/v1/completions", false, Text},
    {"POST", "/v1/responses", false, Responses},
    {"POST", "/v1/messages", false, Messages},
    {"POST", "/v1/messages/count_tokens", false, CountTokens},
    {"POST", "/v1/chat/interactive", false, Interactive},
    {"POST", "/v1/sessions/fork", false, Fork},
    {"POST", "/generate", false, NativeGenerate},
    {"POST", "/v1/encode", false, Encode},
    {"POST", "/v1/tokenize", false, Tokenize},
    {"POST", "/v1/detokenize", false, Detokenize},
    {"POST", "/v1/embeddings", false, Embeddings},
};

}  // namespace

absl::Span<const Endpoint> Endpoints() { return kEndpoints; }

ErrorStyle ErrorStyleAt(std::string_view path) {
  return path.starts_with("/v1/messages") ? ErrorStyle::kAnthropic : ErrorStyle::kOpenAi;
}

const Endpoint* FindEndpoint(std::string_view method, std::string_view path) {
  const Endpoint* found = nullptr;
  for (const Endpoint& endpoint : kEndpoints) {
    const std::string_view wanted = endpoint.path;
    const bool prefix = wanted.back() == '/' && wanted.size() > 1;
    if (prefix ? path.size() <= wanted.size() || !path.starts_with(wanted) : path != wanted) continue;
    if (found == nullptr || endpoint.method == method) found = &endpoint;
  }
  return found;
}

}  // namespace berth::http
