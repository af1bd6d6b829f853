#include "clients/cli/conversation.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "clients/cli/api_key.h"
#include "proto/rpc/status.h"

namespace berth::cli {
namespace {

std::string DrawId(const char* prefix) {
  std::random_device random;
  return absl::StrCat(prefix, absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8));
}

}  // namespace

Conversation::Conversation(std::shared_ptr<grpc::Channel> channel, const ConversationOptions& options)
    : options_(options), inference_(v1::InferenceService::NewStub(channel)), sessions_(v1::SessionService::NewStub(channel)) {}

v1::StreamGenerateRequest Conversation::MakeRequest(const std::string& text) const {
  v1::StreamGenerateRequest request;
  v1::GenerationSpec& spec = *request.mutable_generation();
  spec.set_request_id(DrawId("cli-"));
  spec.set_session_id(session_id_);
  spec.set_model(options_.model);
  v1::ChatPrompt& chat = *spec.mutable_prompt()->mutable_chat();
  const auto add = [&](const char* role, const std::string& content) {
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role(role);
    message.set_content(content);
  };
  if (fresh_ && !options_.system.empty()) add("system", options_.system);
  add("user", text);
  *spec.mutable_sampling() = options_.sampling;
  *spec.mutable_stop() = options_.stop;
  spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
  spec.mutable_session()->set_start(fresh_);
  // A first turn that failed half-way may have opened the session.
  spec.mutable_session()->set_replace(fresh_);
  return request;
}

absl::Status Conversation::Ask(const std::string& text, const std::function<void(std::string_view)>& on_text) {
  if (session_id_.empty()) {
    session_id_ = options_.session_id.empty() ? DrawId("chat-") : options_.session_id;
    fresh_ = true;
  }
  const v1::StreamGenerateRequest request = MakeRequest(text);
  const auto turn = std::make_shared<Turn>();
  turn->request_id = request.generation().request_id();
  turn->session_id = session_id_;
  {
    base::MutexLock lock(mutex_);
    turn_ = turn;
  }
  AddApiKey(turn->context, options_.api_key);
  const auto stream = inference_->StreamGenerate(&turn->context, request);
  v1::StreamGenerateResponse response;
  while (stream->Read(&response)) {
    if (response.has_delta()) on_text(response.delta().has_text() ? response.delta().text() : response.delta().reasoning());
  }
  const absl::Status status = rpc::FromGrpc(stream->Finish());
  base::MutexLock lock(mutex_);
  turn_ = nullptr;
  const std::string reason = rpc::Reason(status);
  if (status.ok()) fresh_ = false;
  if (reason == "SESSION_NOT_FOUND" || reason == "SESSION_LOST") session_id_.clear();
  return status;
}

bool Conversation::Interrupt() {
  std::shared_ptr<Turn> turn;
  {
    base::MutexLock lock(mutex_);
    turn = turn_;
  }
  if (turn == nullptr) return false;
  v1::CancelRequest request;
  request.set_request_id(turn->request_id);
  request.set_session_id(turn->session_id);
  v1::CancelResponse response;
  grpc::ClientContext context;
  AddApiKey(context, options_.api_key);
  const grpc::Status status = inference_->Cancel(&context, request, &response);
  // A server that does not answer, or has not seen the request yet: then the stream goes.
  if (!status.ok() || !response.found()) turn->context.TryCancel();
  return true;
}

absl::Status Conversation::Close() {
  if (session_id_.empty()) return absl::OkStatus();
  v1::CloseSessionRequest request;
  request.set_session_id(std::exchange(session_id_, {}));
  request.set_model(options_.model);
  v1::CloseSessionResponse response;
  grpc::ClientContext context;
  AddApiKey(context, options_.api_key);
  return rpc::FromGrpc(sessions_->CloseSession(&context, request, &response));
}

}  // namespace berth::cli
