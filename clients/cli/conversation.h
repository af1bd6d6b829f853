#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "clients/cpp/client.h"

namespace berth::cli {

struct ConversationOptions {
  std::string model;              // empty: the only one served
  std::string system;             // empty: none
  std::string session_id;         // empty: a drawn one for each session
  v1::GenerationSpec generation;  // sampling, stop, output and the like of every turn
};

// What people read of one piece of an answer.
const std::string& TextOf(const v1::StreamGenerateResponse& message);

// A conversation whose history the server keeps: one interactive session at a time. Thread: one at a time, Interrupt excepted.
class Conversation {
 public:
  // `client` outlives it.
  Conversation(client::Client& client, const ConversationOptions& options) : client_(client), options_(options) {}

  // One turn; `on_message` gets the answer in pieces. The first turn opens a session. The server's error otherwise; one that
  // says that the session is lost makes the next turn open another.
  absl::Status Ask(const std::string& text, const std::function<void(const v1::StreamGenerateResponse&)>& on_message);
  // Ends the running answer; what was said of it stays in the history. Where the server does not answer soon, or at a second
  // call, only the stream ends. False when none runs. Any thread.
  bool Interrupt();
  // Frees the session; the next turn opens another. DEADLINE_EXCEEDED when the server does not answer soon.
  absl::Status Close();

 private:
  v1::GenerationSpec MakeTurn(const std::string& text) const;

  client::Client& client_;
  const ConversationOptions options_;
  std::string session_id_;  // empty: no session is open
  bool fresh_ = true;       // the session's first turn has not been taken

  base::Mutex mutex_;
  std::optional<v1::CancelRequest> running_ ABSL_GUARDED_BY(mutex_);  // what would cancel it
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;                  // the running answer, once
};

}  // namespace berth::cli
