#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace berth::cli {

// A request to a server that is measured: greedy, and no token ends its answer.
struct BenchAsk {
  struct Message {
    std::string role, content;
  };
  std::vector<int32_t> ids;       // of the prompt; or
  std::vector<Message> messages;  // what was said so far
  std::string session_id;         // empty: none
  int output = 0;                 // tokens
};

// What has come of an answer since the last time.
struct BenchPart {
  int tokens = 0;
  absl::string_view text;
  // Of the whole request, with its last part: as the server counted.
  int prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
};

// Many requests to one server at once, on a thread that runs all callbacks. Thread: that one, Post excepted.
class BenchCaller {
 public:
  virtual ~BenchCaller() = default;
  // Any thread.
  virtual void Post(absl::AnyInvocable<void()> function) = 0;
  virtual void After(absl::Duration delay, absl::AnyInvocable<void()> function) = 0;
  // `on_end` runs once, last, not during this call.
  virtual void Start(const BenchAsk& ask, absl::AnyInvocable<void(const BenchPart&)> on_part,
                     absl::AnyInvocable<void(const absl::Status&)> on_end) = 0;
};

struct BenchTarget {
  std::string server;   // host:port of a gateway's gRPC API, or http://host:port of any OpenAI API
  std::string model;    // empty: the only one, over gRPC
  std::string api_key;  // empty: none
};

// Connected, over gRPC.
absl::StatusOr<std::unique_ptr<BenchCaller>> MakeGrpcCaller(const BenchTarget& target);

// /v1/completions, or /v1/chat/completions for messages. An answer's pieces count as a token each until the last tells how many
// there were. INVALID_ARGUMENT: the address is none, or no model is named.
absl::StatusOr<std::unique_ptr<BenchCaller>> MakeHttpCaller(const BenchTarget& target);

}  // namespace berth::cli
