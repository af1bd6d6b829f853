// SessionTable's commits and releases that wait while the journal is gone.

#include <vector>

#include "worker/session/session_table.h"

namespace berth::session {
namespace {

constexpr size_t kMaxOwedReleases = 10000;

}  // namespace

void SessionTable::CountFenced(const SessionKey& key) {
  ++fenced_commits_;
  Forget(key);
}

// Hands pending commits to the journal in order. UNAVAILABLE: it is gone. A conflict means that another worker went on: ours
// are dropped, and counted, and the session forgotten.
absl::Status SessionTable::CatchUp(const SessionKey& key, Entry& entry) {
  while (!entry.pending.empty()) {
    const PendingCommit& commit = entry.pending.front();
    const auto version = journal_->Commit({.key = key,
                                           .fence = commit.fence,
                                           .from_version = commit.from_version,
                                           .keep_tokens = commit.keep_tokens,
                                           .keep_messages = commit.keep_messages,
                                           .after = commit.after.get(),
                                           .now = clock_.Now()});
    if (absl::IsUnavailable(version.status())) return version.status();
    if (!version.ok()) {
      CountFenced(key);
      return version.status();
    }
    pending_bytes_ -= BytesOf(*commit.after);
    entry.pending.pop_front();
  }
  return absl::OkStatus();
}

void SessionTable::CatchUpAll() {
  std::vector<SessionKey> waiting;
  for (const auto& [key, entry] : entries_) {
    if (!entry.pending.empty()) waiting.push_back(key);
  }
  for (const SessionKey& key : waiting) {
    if (absl::IsUnavailable(CatchUp(key, entries_.find(key)->second))) return;
  }
  while (!owed_releases_.empty()) {
    const auto& [key, fence] = owed_releases_.front();
    if (absl::IsUnavailable(journal_->Release(key, fence))) return;
    owed_releases_.pop_front();
  }
}

// Commits, or keeps the commit for later while the journal is gone.
absl::StatusOr<uint64_t> SessionTable::CommitOrKeep(const SessionKey& key, Entry& entry, PendingCommit commit) {
  const size_t bytes = BytesOf(*commit.after);
  std::shared_ptr<const History> after = commit.after;
  entry.pending.push_back(std::move(commit));
  pending_bytes_ += bytes;
  if (const absl::Status done = CatchUp(key, entry); !done.ok() && !absl::IsUnavailable(done)) return done;
  const bool after_lost_ones = entry.history != nullptr && !entry.history->durable;
  if (pending_bytes_ > options_.pending_bytes || after_lost_ones) {
    for (const PendingCommit& dropped : entry.pending) pending_bytes_ -= BytesOf(*dropped.after);
    entry.pending.clear();
    History not_durable = *after;
    not_durable.durable = false;
    after = std::make_shared<const History>(std::move(not_durable));
  }
  const uint64_t version = after->version;
  Keep(key, entry, std::move(after));
  return version;
}

// A claim that stays open keeps other workers from the session. Commits that wait release it themselves: until then the journal
// may not know the session yet, and a release would delete it.
void SessionTable::Release(const SessionKey& key, uint64_t fence) {
  const auto found = entries_.find(key);
  if (found != entries_.end() && !found->second.pending.empty()) return;
  if (!absl::IsUnavailable(journal_->Release(key, fence)) || owed_releases_.size() >= kMaxOwedReleases) return;
  owed_releases_.emplace_back(key, fence);
}

}  // namespace berth::session
