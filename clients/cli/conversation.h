#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "grpcpp/channel.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"

namespace berth::cli {

struct ConversationOptions {
  std::string model;       // empty: the only one served
  std::string system;      // empty: none
  std::string api_key;     // empty: none
  std::string session_id;  // empty: a drawn one for each session
  v1::SamplingParams sampling;
  v1::StopCriteria stop;
};

// A conversation whose history the server keeps: one interactive session at a time. Thread: one at a time, Interrupt excepted.
class Conversation {
 public:
  Conversation(std::shared_ptr<grpc::Channel> channel, const ConversationOptions& options);

  // One turn; `on_text` gets the answer in pieces. The first turn opens a session. The server's error otherwise; one that says
  // that the session is lost makes the next turn open another.
  absl::Status Ask(const std::string& text, const std::function<void(std::string_view)>& on_text);
  // Ends the running answer; what was said of it stays in the history. False when none runs. Any thread.
  bool Interrupt();
  // Frees the session; the next turn opens another.
  absl::Status Close();

 private:
  v1::StreamGenerateRequest MakeRequest(const std::string& text) const;

  const ConversationOptions options_;
  const std::unique_ptr<v1::InferenceService::Stub> inference_;
  const std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::string session_id_;  // empty: no session is open
  bool fresh_ = true;       // the session's first turn has not been taken

  struct Turn {
    grpc::ClientContext context;
    std::string request_id;
    std::string session_id;
  };
  base::Mutex mutex_;
  std::shared_ptr<Turn> turn_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace berth::cli
