#include "gateway/http/native_request.h"

#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "gateway/http/ask_workers.h"
#include "gateway/http/generation_fields.h"
#include "gateway/http/json_text.h"
#include "gateway/http/native_format.h"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

constexpr int kDefaultGenerateTokens = 128;
constexpr int kDefaultInteractiveTokens = 512;

// A string is what the user says; an array, the messages of the turn.
void ReadTurn(JsonFields& fields, v1::ChatPrompt& chat) {
  const json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return fields.Fail("prompt", "is required");
  if (!prompt->is_string()) return ReadChatMessages(fields, "prompt", chat);
  AddMessage(chat, "user").set_content(prompt->get<std::string>());
}

HttpAnswer NothingGenerated() { return {.body = Dump(InteractiveAnswer("", 0, 0, 0, "stop"))}; }

void CancelTurn(Exchange& exchange, const std::string& session_id) {
  v1::CancelRequest request;
  request.set_session_id(session_id);
  // Weakly: a worker's answer may come when the server is gone.
  exchange.context().generation.shard.Post([weak = exchange.weak_from_this(), request] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->context().generation.relay.Cancel(self->tenant()->name, request, [weak](bool) {
      if (const auto self = weak.lock()) self->Post([self] { self->Answer(NothingGenerated()); });
    });
  });
}

void CloseSession(Exchange& exchange, const v1::GenerationSpec& spec) {
  v1::CloseSessionRequest request;
  request.set_session_id(spec.session_id());
  request.set_model(spec.model());
  AskWorkers(exchange, &WorkerCalls::close_session, std::vector{std::move(request)},
             [](Exchange& self, const std::vector<v1::CloseSessionResponse>&) { self.Answer(NothingGenerated()); });
}

// `parent~xxxxxx`, which goes where the parent goes. For a session whose callers keep the history: its prefix is all to share.
v1::ForkSessionResponse NameBranch(const std::string& parent) {
  v1::ForkSessionResponse branch;
  absl::BitGen random;
  const auto suffix = absl::Uniform<uint32_t>(random) & 0xFFFFFF;
  branch.set_session_id(absl::StrCat(parent.substr(0, parent.find('~')), "~", absl::Hex(suffix, absl::kZeroPad6)));
  return branch;
}

}  // namespace

InteractiveRequest ReadInteractive(JsonFields& fields) {
  InteractiveRequest request;
  v1::GenerationSpec& spec = request.call.spec;
  spec.set_model(fields.String("model").value_or(""));
  ReadSession(fields, spec);
  const bool interactive = fields.Bool("interactive_mode").value_or(false);
  const json* prompt = fields.Find("prompt");
  const json* length = fields.Find("request_output_len");
  request.cancel = fields.Bool("cancel").value_or(false);
  request.close = !interactive && length != nullptr && *length == 0 && prompt != nullptr && *prompt == "";
  if (interactive || request.cancel || request.close) {
    if (spec.session_id().empty()) fields.Fail("session_id", "is required");
  }
  const bool generates = !request.cancel && !request.close;
  if (generates) ReadTurn(fields, *spec.mutable_prompt()->mutable_chat());
  if (interactive) spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
  request.call.opens_session = interactive;
  if (generates) {
    spec.mutable_stop()->set_max_tokens(ReadMaxTokens(fields, {"request_output_len"}).value_or(kDefaultInteractiveTokens));
  } else {
    fields.Int32("request_output_len", 0);  // LMDeploy's own callers send 0
  }
  ReadStopStrings(fields, "stop", *spec.mutable_stop());
  ReadStop(fields, *spec.mutable_stop());
  ReadSampling(fields, *spec.mutable_sampling(), /*most_choices=*/1);
  ReadOutput(fields, spec);
  for (const char* name : {"image_url", "adapter_name"}) fields.Refuse(name);
  request.call.stream = fields.Bool("stream").value_or(false);
  spec.mutable_output()->set_token_ids(true);
  request.call.format = MakeInteractiveFormat();
  return request;
}

v1::ForkSessionRequest ReadFork(JsonFields& fields) {
  v1::GenerationSpec spec;
  ReadSession(fields, spec);
  v1::ForkSessionRequest request;
  request.set_model(fields.String("model").value_or(""));
  request.set_session_id(spec.session_id());
  if (spec.session_id().empty()) fields.Fail("session_id", "is required");
  if (const auto position = fields.Int64("position")) {
    if (*position < 0) fields.Fail("position", absl::StrCat("is ", *position, ", want at least 0"));
    request.set_position(*position);
  }
  return request;
}

void Fork(Exchange& exchange) {
  std::optional<v1::ForkSessionRequest> request = ReadBody(exchange, ReadFork);
  if (!request.has_value()) return;
  exchange.context().generation.shard.Post([weak = exchange.weak_from_this(), request = *std::move(request)] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->context().workers.fork_session(
        self->tenant()->name, request,
        [weak, parent = request.session_id()](const absl::Status& status, const v1::ForkSessionResponse& response) {
          const auto self = weak.lock();
          if (self == nullptr) return;
          const bool kept_by_caller = rpc::Reason(status) == "SESSION_NOT_FOUND";
          self->Post([self, status, branch = kept_by_caller ? NameBranch(parent) : response, kept_by_caller] {
            if (!status.ok() && !kept_by_caller) return self->Fail(status);
            self->Answer({.body = Dump({{"session_id", branch.session_id()}, {"position", branch.position()}})});
          });
        });
  });
}

GenerationCall ReadGenerate(JsonFields& fields) {
  GenerationCall call;
  call.spec.set_model(fields.String("model").value_or(""));
  const std::optional<std::string> prompt = fields.String("prompt");
  const json* ids = fields.Array("input_ids");
  if (prompt.has_value() == (ids != nullptr)) fields.Fail("prompt", "or input_ids: one of the two is required");
  if (prompt.has_value()) call.spec.mutable_prompt()->set_text(*prompt);
  if (ids != nullptr) ReadTokenIds(fields, "input_ids", *ids, *call.spec.mutable_prompt());
  ReadSession(fields, call.spec);
  call.spec.mutable_stop()->set_max_tokens(ReadMaxTokens(fields, {"max_tokens"}).value_or(kDefaultGenerateTokens));
  ReadStopStrings(fields, "stop", *call.spec.mutable_stop());
  ReadStop(fields, *call.spec.mutable_stop());
  ReadSampling(fields, *call.spec.mutable_sampling(), /*most_choices=*/1);
  ReadOutput(fields, call.spec);
  const bool logprobs = fields.Bool("return_logprob").value_or(false);
  if (logprobs) call.spec.mutable_output()->set_top_logprobs(0);
  for (const char* name : {"image_data", "return_routed_experts"}) fields.Refuse(name);
  call.stream = fields.Bool("stream").value_or(false);
  call.spec.mutable_output()->set_token_ids(true);
  call.format = MakeGenerateFormat(logprobs);
  return call;
}

void Interactive(Exchange& exchange) {
  std::optional<InteractiveRequest> request = ReadBody(exchange, ReadInteractive);
  if (!request.has_value()) return;
  if (request->cancel) return CancelTurn(exchange, request->call.spec.session_id());
  if (request->close) return CloseSession(exchange, request->call.spec);
  exchange.Generate(std::move(request->call));
}

}  // namespace berth::http
