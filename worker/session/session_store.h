#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "worker/session/journal.h"
#include "worker/session/session.h"

namespace berth::session {

struct SessionStoreOptions {
  std::string holder;  // "worker_id/incarnation" of this process
  absl::Duration ttl = absl::Hours(24);
  int max_sessions = 100000;
  size_t history_bytes = size_t{256} << 20;  // histories kept in memory, LRU
  size_t pending_bytes = size_t{64} << 20;   // commits that wait for a journal that is gone
  absl::Status Validate() const;
};

struct TurnOptions {
  std::string request_id;
  bool start = false;
  bool replace = false;
  std::optional<int64_t> position;
  std::vector<std::string> lost_holders;
};

// A claimed turn: until CommitTurn or AbandonTurn the session is busy.
struct Turn {
  SessionKey key;
  std::string request_id;
  uint64_t fence = 0;
  uint64_t version = 0;                    // of `history`, as claimed
  std::shared_ptr<const History> history;  // tokens and messages cut to the asked position
  bool repeated = false;                   // request_id is the last committed one: answer it again, then AbandonTurn
};

// What a turn leaves behind. The new history is history[0, from_position) + tokens.
struct TurnResult {
  int64_t from_position = 0;
  std::vector<int32_t> tokens;
  std::vector<Message> messages;  // the whole conversation
  int64_t output_begin = 0;
  int finish_reason = 0;
  bool end = false;  // close the session
};

struct SessionInfo {
  int64_t position = 0;
  uint64_t version = 0;
  bool busy = false;
  bool durable = true;
  bool held = false;  // this process has a copy in memory
  absl::Duration idle;
};

// Sessions of one worker: copies in memory, truth in the journal, claimed and committed under fences (rules 5 to 14).
// Thread-safe and never blocking: callbacks run on the journal's thread.
class SessionStore {
 public:
  template <typename T>
  using Callback = absl::AnyInvocable<void(absl::StatusOr<T>)>;

  SessionStore(const SessionStoreOptions& options, std::unique_ptr<Journal> journal, const base::Clock& clock);
  ~SessionStore();  // finishes what was asked for

  // Errors carry their ErrorInfo reason as the message's first word, e.g. "SESSION_BUSY: …":
  //   FAILED_PRECONDITION SESSION_NOT_FOUND, ALREADY_EXISTS SESSION_EXISTS, OUT_OF_RANGE POSITION_OUT_OF_RANGE,
  //   ABORTED SESSION_BUSY, UNAVAILABLE JOURNAL_UNAVAILABLE, RESOURCE_EXHAUSTED TOO_MANY_SESSIONS. SESSION_NOT_FOUND of a
  //   session that outlived its ttl ends in "(expired)". DATA_LOSS: the journal cannot read it; it can be replaced and closed.
  void BeginTurn(const SessionKey& key, TurnOptions options, Callback<Turn> done);
  // What BeginTurn would grant as the turn's history if this process's copy is the newest, at once, so that work on it can
  // begin while the claim runs; null when that cannot be told. It is right if the claimed turn's history has the same version.
  std::shared_ptr<const History> Assume(const SessionKey& key, const TurnOptions& options) const;
  // The new position; ABORTED SESSION_FENCED when another holder has claimed since: the copy is dropped.
  void CommitTurn(const Turn& turn, TurnResult result, Callback<int64_t> done);
  // Releases the claim and changes nothing.
  void AbandonTurn(const Turn& turn);

  // Child id and position.
  void Fork(const SessionKey& parent, std::optional<int64_t> position, Callback<std::pair<std::string, int64_t>> done);
  void Close(const SessionKey& key, Callback<bool> done);  // whether it existed
  void Get(const SessionKey& key, Callback<SessionInfo> done);

  // Sessions with a copy in this process's memory.
  int open_sessions() const;
  uint64_t fenced_commits() const;
  std::string journal_domain() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace berth::session
