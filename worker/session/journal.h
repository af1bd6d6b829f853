#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
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
  uint64_t fence = 0;
  uint64_t version = 0;  // 0: the session does not exist yet
};

struct CommitRequest {
  SessionKey key;
  uint64_t fence = 0;
  uint64_t from_version = 0;
  // Appended rows: the history up to here is kept from what the journal has.
  int64_t from_position = 0;
  absl::Span<const int32_t> tokens;
  const History* after = nullptr;  // messages and last-turn fields to store beside the tokens
  bool close = false;              // delete the session instead
  absl::Time now;
};

// Where sessions outlive a worker. Implementations: memory, SQLite. Thread: the journal thread only; calls may block on disk.
// Errors: ABORTED "SESSION_BUSY: …" (Claim), ABORTED "SESSION_FENCED: …" (Commit), UNAVAILABLE "JOURNAL_UNAVAILABLE: …".
class Journal {
 public:
  virtual ~Journal() = default;
  // Raises the fence atomically. An open claim of another request is refused unless its holder is the same process's earlier
  // incarnation in `lost_holders`, or the request id is equal.
  virtual absl::StatusOr<Claim> DoClaim(const ClaimRequest& request) = 0;
  // Compares fence and version, then appends or closes, and releases the claim. Returns the new version.
  virtual absl::StatusOr<uint64_t> Commit(const CommitRequest& request) = 0;
  // Releases a claim without a change. No effect when the fence is not the newest.
  virtual absl::Status Release(const SessionKey& key, uint64_t fence) = 0;
  // NOT_FOUND when there is no such session.
  virtual absl::StatusOr<History> Load(const SessionKey& key) = 0;
  // Drops sessions that were last used before `before`; the ids of at most 1000.
  virtual absl::StatusOr<std::vector<SessionKey>> Sweep(absl::Time before) = 0;
  // Workers with equal domains share one journal; empty: nobody else can read it.
  virtual std::string domain() const = 0;
};

std::unique_ptr<Journal> MakeMemoryJournal();
// One file for the workers of a host. UNAVAILABLE when it cannot be opened, INVALID_ARGUMENT when it is no journal.
absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(const std::string& path);

}  // namespace berth::session
