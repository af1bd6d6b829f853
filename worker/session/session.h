#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace berth::session {

struct SessionKey {
  std::string tenant;
  std::string model;
  std::string session_id;

  bool operator==(const SessionKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const SessionKey& key) {
    return H::combine(std::move(h), key.tenant, key.model, key.session_id);
  }
};

// One message of a session's conversation and where its tokens lie in the history.
struct Message {
  std::string role;
  std::string content;
  int64_t begin = 0;  // assistant: the first output token; others: the first token after the message before
  int64_t end = 0;    // one past its last token
  // The position that callers were told when it was the history's last message; 0: none. Rendering the conversation anew may
  // have moved its end since.
  int64_t told = 0;
  bool cut = false;  // a rewind fell inside: `end` is right, `content` still whole (an assistant's is to be decoded anew)

  bool operator==(const Message&) const = default;
};

// What a session remembers. `version` grows with every commit; a copy is valid only if its version equals the claim's.
struct History {
  uint64_t version = 0;
  std::vector<int32_t> tokens;
  std::vector<Message> messages;
  // The last committed turn, so that the same request is answered again instead of appended (rule 14).
  std::string last_request_id;
  int64_t last_output_begin = 0;
  int last_finish_reason = 0;  // the contract's FinishReason
  bool durable = true;         // false: commits are missing in the journal
  absl::Time last_used;
};

// In memory, about.
size_t BytesOf(const History& history);

// `history` as it was at a position that a caller gives: behind the last message at whose end it was told, else the first
// `position` tokens. Nothing when that is beyond the history.
std::optional<History> HistoryAt(const History& history, int64_t position);

}  // namespace berth::session
