#include "clients/cli/conversation.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status.h"

namespace berth::cli {
namespace {

// What a person waits for the server to do what it also does on its own, in time.
constexpr absl::Duration kCancelPatience = absl::Seconds(1), kClosePatience = absl::Seconds(2);

std::string DrawId(const char* prefix) {
  std::random_device random;
  return absl::StrCat(prefix, absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8));
}

}  // namespace

v1::GenerationSpec Conversation::MakeTurn(const std::string& text) const {
  v1::GenerationSpec spec = options_.generation;
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
  spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
  spec.mutable_session()->set_start(fresh_);
  // A first turn that failed half-way may have opened the session.
  spec.mutable_session()->set_replace(fresh_);
  return spec;
}

const std::string& TextOf(const v1::StreamGenerateResponse& message) {
  return message.delta().has_text() ? message.delta().text() : message.delta().reasoning();
}

absl::Status Conversation::Ask(const std::string& text,
                               const std::function<void(const v1::StreamGenerateResponse&)>& on_message) {
  if (session_id_.empty()) {
    session_id_ = options_.session_id.empty() ? DrawId("chat-") : options_.session_id;
    fresh_ = true;
  }
  const v1::GenerationSpec turn = MakeTurn(text);
  {
    base::MutexLock lock(mutex_);
    running_.emplace().set_request_id(turn.request_id());
    running_->set_session_id(session_id_);
    interrupted_ = false;
  }
  const absl::Status status = client_.Generate(turn, on_message);
  base::MutexLock lock(mutex_);
  running_.reset();
  const std::string reason = rpc::Reason(status);
  if (status.ok()) fresh_ = false;
  if (reason == "SESSION_NOT_FOUND" || reason == "SESSION_LOST") session_id_.clear();
  return status;
}

bool Conversation::Interrupt() {
  v1::CancelRequest request;
  bool again = false;
  {
    base::MutexLock lock(mutex_);
    if (!running_.has_value()) return false;
    request = *running_;
    again = std::exchange(interrupted_, true);
  }
  // A server that does not answer, or has not seen the request yet: then the stream goes.
  if (again || !client_.Cancel(request, kCancelPatience).value_or(false)) client_.Abandon(request.request_id());
  return true;
}

absl::Status Conversation::Close() {
  if (session_id_.empty()) return absl::OkStatus();
  v1::CloseSessionRequest request;
  request.set_session_id(std::exchange(session_id_, {}));
  request.set_model(options_.model);
  return client_.CloseSession(request, kClosePatience).status();
}

}  // namespace berth::cli
