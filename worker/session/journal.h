#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/session/session.h"

namespace berth::session {

struct ClaimRequest {
  SessionKey key;
  std::string request_id;
  std::string holder;
  std::vector<std::string> lost_holders;  // their open claims may be taken over
  absl::Time now;
};

struct Claim {
  uint64_t fence = 0;    // higher than that of any claim before it, of whichever session
  uint64_t version = 0;  // 0: the session does not exist yet
};

// The version that a commit makes. A session's first is its fence: a later session of the same name never has the same version,
// so that nobody takes a copy of the one that was closed for it.
inline uint64_t NextVersion(uint64_t fence, uint64_t from_version) { return from_version == 0 ? fence : from_version + 1; }

struct CommitRequest {
  SessionKey key;
  uint64_t fence = 0;
  uint64_t from_version = 0;
  // What the journal keeps of its history; behind it come `after`'s tokens and messages.
  int64_t keep_tokens = 0;
  int64_t keep_messages = 0;
  const History* after = nullptr;  // the history after the commit; null: delete the session
  absl::Time now;
};

// Where sessions outlive a worker: memory, SQLite, Redis. Thread: the journal thread only; calls may block on disk or network.
// Errors: ABORTED "SESSION_BUSY: …" (Claim), ABORTED "SESSION_FENCED: …" (Commit), UNAVAILABLE "JOURNAL_UNAVAILABLE: …".
class Journal {
 public:
  virtual ~Journal() = default;
  // Raises the fence atomically. Another worker's open claim is refused, unless it is for the same request or its holder is in
  // `lost_holders`. An earlier incarnation of the same worker is gone: of two claimants of an id the newer wins.
  virtual absl::StatusOr<Claim> DoClaim(const ClaimRequest& request) = 0;
  // Compares fence and version, then appends or closes, and releases the claim. Returns the new version.
  virtual absl::StatusOr<uint64_t> Commit(const CommitRequest& request) = 0;
  // Releases a claim without a change. No effect when the fence is not the newest.
  virtual absl::Status Release(const SessionKey& key, uint64_t fence) = 0;
  // NOT_FOUND when there is no such session.
  virtual absl::StatusOr<History> Load(const SessionKey& key) = 0;
  // Drops the sessions without an open claim that were last used before `before`.
  virtual absl::Status Sweep(absl::Time before) = 0;
  // Workers with equal domains share one journal; empty: nobody else can read it.
  virtual std::string domain() const = 0;
};

// For tests and for workers whose callers resend the conversation: sessions end with the process, and those unused for the
// longest time when their histories exceed `max_bytes`.
std::unique_ptr<Journal> MakeMemoryJournal(size_t max_bytes = size_t{256} << 20);
// One file for the workers of a host. UNAVAILABLE when it cannot be opened, INVALID_ARGUMENT when it is no journal.
// `in_commit`, if any, runs inside the transaction of every commit: a process that freezes there shows what others then see.
absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(const std::string& path,
                                                           absl::AnyInvocable<void()> in_commit = nullptr);

}  // namespace berth::session
