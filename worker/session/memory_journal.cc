#include <list>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "worker/session/holder.h"
#include "worker/session/journal.h"

namespace berth::session {
namespace {

class MemoryJournal : public Journal {
 public:
  explicit MemoryJournal(size_t max_bytes) : max_bytes_(max_bytes) {}

  absl::StatusOr<Claim> DoClaim(const ClaimRequest& request) override {
    const auto [found, inserted] = entries_.try_emplace(request.key);
    Entry& entry = found->second;
    if (!MayTakeOver(request, entry.holder, entry.request_id)) {
      return absl::AbortedError(absl::StrCat("SESSION_BUSY: ", entry.holder, " runs a turn of this session"));
    }
    if (inserted) {
      bytes_ += BytesOf(entry.history);
    } else {
      recency_.erase(entry.recency);
    }
    entry.recency = recency_.insert(recency_.end(), request.key);
    entry.holder = request.holder;
    entry.request_id = request.request_id;
    entry.fence = ++last_fence_;
    return Claim{.fence = entry.fence, .version = entry.history.version};
  }

  absl::StatusOr<uint64_t> Commit(const CommitRequest& request) override {
    const auto found = entries_.find(request.key);
    if (found == entries_.end() || found->second.fence != request.fence ||
        found->second.history.version != request.from_version) {
      return absl::AbortedError("SESSION_FENCED: another worker has claimed this session since");
    }
    if (request.after == nullptr) {
      Erase(found);
      return 0;
    }
    Entry& entry = found->second;
    bytes_ -= BytesOf(entry.history);
    entry.history = *request.after;
    entry.history.version = NextVersion(request.fence, request.from_version);
    entry.history.last_used = request.now;
    bytes_ += BytesOf(entry.history);
    Evict();
    entry.holder.clear();
    return entry.history.version;
  }

  absl::Status Release(const SessionKey& key, uint64_t fence) override {
    const auto found = entries_.find(key);
    if (found == entries_.end() || found->second.fence != fence) return absl::OkStatus();
    found->second.holder.clear();
    if (found->second.history.version == 0) Erase(found);
    return absl::OkStatus();
  }

  absl::StatusOr<History> Load(const SessionKey& key) override {
    const auto found = entries_.find(key);
    if (found == entries_.end() || found->second.history.version == 0) {
      return absl::NotFoundError(absl::StrCat("SESSION_NOT_FOUND: no session \"", key.session_id, "\""));
    }
    return found->second.history;
  }

  absl::Status Sweep(absl::Time before) override {
    for (auto item = entries_.begin(); item != entries_.end();) {
      const auto candidate = item++;
      if (candidate->second.holder.empty() && candidate->second.history.last_used < before) Erase(candidate);
    }
    return absl::OkStatus();
  }

  std::string domain() const override { return ""; }

 private:
  struct Entry {
    uint64_t fence = 0;
    std::string holder;  // of the open claim; empty: none
    std::string request_id;
    History history;
    std::list<SessionKey>::iterator recency;
  };
  using Entries = absl::flat_hash_map<SessionKey, Entry>;

  void Erase(Entries::iterator found) {
    bytes_ -= BytesOf(found->second.history);
    recency_.erase(found->second.recency);
    entries_.erase(found);
  }

  // Those with an open claim stay, the one that commits among them.
  void Evict() {
    for (auto key = recency_.begin(); key != recency_.end() && bytes_ > max_bytes_;) {
      const auto found = entries_.find(*key++);
      if (found->second.holder.empty()) Erase(found);
    }
  }

  const size_t max_bytes_;
  uint64_t last_fence_ = 0;
  Entries entries_;
  std::list<SessionKey> recency_;  // least recently claimed first
  size_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<Journal> MakeMemoryJournal(size_t max_bytes) { return std::make_unique<MemoryJournal>(max_bytes); }

}  // namespace berth::session
