#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "worker/session/journal.h"
#include "worker/session/session_store.h"

namespace berth::session {

// What SessionStore promises, without its thread: copies of sessions in memory, claims and commits in the journal, commits that
// wait while the journal is gone. Thread: one, the journal's; Assume and the counters from any.
class SessionTable {
 public:
  SessionTable(const SessionStoreOptions& options, std::unique_ptr<Journal> journal, const base::Clock& clock);

  absl::StatusOr<Turn> BeginTurn(const SessionKey& key, const TurnOptions& options);
  std::shared_ptr<const History> Assume(const SessionKey& key, const TurnOptions& options) const;
  absl::StatusOr<int64_t> CommitTurn(const Turn& turn, TurnResult result);
  void AbandonTurn(const Turn& turn);
  absl::StatusOr<std::pair<std::string, int64_t>> Fork(const SessionKey& parent, std::optional<int64_t> position);
  absl::StatusOr<bool> Close(const SessionKey& key);
  absl::StatusOr<SessionInfo> Get(const SessionKey& key);

  // Hands waiting commits and releases to the journal, if it is back.
  void CatchUpAll();
  bool has_pending() const { return pending_bytes_ > 0 || !owed_releases_.empty(); }
  void Sweep();

  int open_sessions() const { return open_sessions_.load(); }
  uint64_t fenced_commits() const { return fenced_commits_.load(); }

 private:
  // A commit that the journal has not taken yet.
  struct PendingCommit {
    std::shared_ptr<const History> after;
    uint64_t fence = 0;
    uint64_t from_version = 0;
    int64_t keep_tokens = 0;
    int64_t keep_messages = 0;
  };

  struct Entry {
    std::shared_ptr<const History> history;  // null: not in memory
    uint64_t fence = 0;                      // of this process's last claim; 0: none
    bool running = false;
    std::deque<PendingCommit> pending;
    std::list<SessionKey>::iterator recency;
  };

  Entry& Touch(const SessionKey& key);
  void Forget(const SessionKey& key);
  void Keep(const SessionKey& key, Entry& entry, std::shared_ptr<const History> history);
  void EvictHistories();
  absl::Status CatchUp(const SessionKey& key, Entry& entry);
  absl::StatusOr<Claim> ClaimFor(const SessionKey& key, const Entry& entry, const TurnOptions& options);
  absl::StatusOr<std::shared_ptr<const History>> NewestHistory(const SessionKey& key, Entry& entry, const Claim& claim);
  absl::StatusOr<Turn> Grant(const SessionKey& key, Entry& entry, const Claim& claim, const TurnOptions& options);
  absl::Status CloseTurn(const Turn& turn, Entry& entry);
  absl::Status DeleteUnreadable(const SessionKey& key);
  absl::StatusOr<uint64_t> CommitOrKeep(const SessionKey& key, Entry& entry, PendingCommit commit);
  void CountFenced(const SessionKey& key);
  void Release(const SessionKey& key, uint64_t fence);

  const SessionStoreOptions options_;
  const std::unique_ptr<Journal> journal_;
  const base::Clock& clock_;

  absl::node_hash_map<SessionKey, Entry> entries_;
  std::list<SessionKey> recency_;  // least recently used first
  // The entries' histories for other threads, which never wait for a call of the journal.
  mutable base::Mutex copies_mutex_;
  absl::flat_hash_map<SessionKey, std::shared_ptr<const History>> copies_ ABSL_GUARDED_BY(copies_mutex_);
  size_t history_bytes_ = 0;
  size_t pending_bytes_ = 0;
  std::deque<std::pair<SessionKey, uint64_t>> owed_releases_;  // keys and fences
  std::atomic<int> open_sessions_{0};
  std::atomic<uint64_t> fenced_commits_{0};
};

}  // namespace berth::session
