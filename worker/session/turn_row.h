#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "worker/session/journal.h"
#include "worker/session/session.h"

namespace berth::session {

// What one commit appends to a journal: a history is the fold of its session's rows in order of version.
struct TurnRow {
  uint64_t version = 0;
  int64_t keep_tokens = 0;
  int64_t keep_messages = 0;
  std::string_view tokens;  // int32 each, behind the kept ones
  std::string messages;     // encoded, behind the kept ones
  std::string_view request_id;
  int64_t output_begin = 0;
  int64_t finish_reason = 0;
};

// The row of a commit that closes nothing. Points into `request`.
TurnRow MakeTurnRow(const CommitRequest& request);
// Applies the next row. DATA_LOSS when it does not fit the history before it, or cannot be read.
absl::Status Fold(const TurnRow& row, History* history);

// Equal keys, and no others, have equal bytes.
std::string KeyBytes(const SessionKey& key);

}  // namespace berth::session
