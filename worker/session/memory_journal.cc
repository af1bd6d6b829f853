#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "worker/session/holder.h"
#include "worker/session/journal.h"

namespace berth::session {
namespace {

// Sessions end with the process; for tests and for workers whose callers resend the conversation.
class MemoryJournal : public Journal {
 public:
  absl::StatusOr<Claim> DoClaim(const ClaimRequest& request) override {
    Entry& entry = entries_[request.key];
    if (!MayTakeOver(request, entry.holder, entry.request_id)) {
      return absl::AbortedError(absl::StrCat("SESSION_BUSY: ", entry.holder, " runs a turn of this session"));
    }
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
      entries_.erase(found);
      return 0;
    }
    Entry& entry = found->second;
    entry.history = *request.after;
    entry.history.version = NextVersion(request.fence, request.from_version);
    entry.history.last_used = request.now;
    entry.holder.clear();
    return entry.history.version;
  }

  absl::Status Release(const SessionKey& key, uint64_t fence) override {
    const auto found = entries_.find(key);
    if (found == entries_.end() || found->second.fence != fence) return absl::OkStatus();
    found->second.holder.clear();
    if (found->second.history.version == 0) entries_.erase(found);
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
    absl::erase_if(entries_,
                   [&](const auto& item) { return item.second.holder.empty() && item.second.history.last_used < before; });
    return absl::OkStatus();
  }

  std::string domain() const override { return ""; }

 private:
  struct Entry {
    uint64_t fence = 0;
    std::string holder;  // of the open claim; empty: none
    std::string request_id;
    History history;
  };
  uint64_t last_fence_ = 0;
  absl::flat_hash_map<SessionKey, Entry> entries_;
};

}  // namespace

std::unique_ptr<Journal> MakeMemoryJournal() { return std::make_unique<MemoryJournal>(); }

}  // namespace berth::session
