#include "worker/session/session_table.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::session {
namespace {

constexpr int kMaxForks = 10000;

int64_t CommonMessages(const std::vector<Message>& before, const std::vector<Message>& after) {
  size_t count = 0;
  while (count < before.size() && count < after.size() && before[count] == after[count]) ++count;
  return static_cast<int64_t>(count);
}

absl::Status Busy(const SessionKey& key) {
  return absl::AbortedError(absl::StrCat("SESSION_BUSY: session \"", key.session_id, "\" runs a turn"));
}

absl::Status NotFound(const SessionKey& key, const char* why = "") {
  return absl::FailedPreconditionError(absl::StrCat("SESSION_NOT_FOUND: no session \"", key.session_id, "\"", why));
}

// What a turn with `options` goes on from, given the session's newest history.
absl::StatusOr<std::shared_ptr<const History>> BeginAt(std::shared_ptr<const History> history, const TurnOptions& options) {
  if (options.start) history = std::make_shared<const History>(History{.version = history->version});
  if (!options.position.has_value()) return history;
  std::optional<History> earlier = HistoryAt(*history, *options.position);
  if (!earlier.has_value()) {
    return absl::OutOfRangeError(absl::StrCat("POSITION_OUT_OF_RANGE: position is ", *options.position, ", the history has ",
                                              history->tokens.size(), " tokens"));
  }
  return std::make_shared<const History>(*std::move(earlier));
}

}  // namespace

SessionTable::SessionTable(const SessionStoreOptions& options, std::unique_ptr<Journal> journal, const base::Clock& clock)
    : options_(options), journal_(std::move(journal)), clock_(clock) {}

SessionTable::Entry& SessionTable::Touch(const SessionKey& key) {
  const auto [found, inserted] = entries_.try_emplace(key);
  Entry& entry = found->second;
  if (!inserted) recency_.erase(entry.recency);
  entry.recency = recency_.insert(recency_.end(), key);
  return entry;
}

void SessionTable::Forget(const SessionKey& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  Keep(key, found->second, nullptr);
  for (const PendingCommit& commit : found->second.pending) pending_bytes_ -= BytesOf(*commit.after);
  recency_.erase(found->second.recency);
  entries_.erase(found);
}

void SessionTable::Keep(const SessionKey& key, Entry& entry, std::shared_ptr<const History> history) {
  if (entry.history != nullptr) history_bytes_ -= BytesOf(*entry.history);
  if (history != nullptr) history_bytes_ += BytesOf(*history);
  open_sessions_ += static_cast<int>(history != nullptr) - static_cast<int>(entry.history != nullptr);
  {
    base::MutexLock lock(copies_mutex_);
    if (history == nullptr) {
      copies_.erase(key);
    } else {
      copies_[key] = history;
    }
  }
  entry.history = std::move(history);
}

void SessionTable::EvictHistories() {
  for (auto key = recency_.begin(); key != recency_.end() && history_bytes_ > options_.history_bytes;) {
    const SessionKey& candidate = *key++;
    Entry& entry = entries_.find(candidate)->second;
    if (entry.running || !entry.pending.empty()) continue;
    if (entry.history->durable) {
      Forget(SessionKey(candidate));
      continue;
    }
    // The next turn is to be told that turns were lost: what stays can do no more than that.
    const History& lost = *entry.history;
    entry.fence = 0;
    Keep(candidate, entry,
         std::make_shared<const History>(History{.version = lost.version, .durable = false, .last_used = lost.last_used}));
  }
}

// While the journal is gone, turns go on for sessions that this process claimed last (rule 8). So they do while commits wait: a
// claim would fence them.
absl::StatusOr<Claim> SessionTable::ClaimFor(const SessionKey& key, const Entry& entry, const TurnOptions& options) {
  const Claim held{.fence = entry.fence, .version = entry.history == nullptr ? 0 : entry.history->version};
  if (!entry.pending.empty()) return held;
  absl::StatusOr<Claim> claim = journal_->DoClaim({.key = key,
                                                   .request_id = options.request_id,
                                                   .holder = options_.holder,
                                                   .lost_holders = options.lost_holders,
                                                   .now = clock_.Now()});
  return absl::IsUnavailable(claim.status()) && entry.fence != 0 && entry.history != nullptr ? held : claim;
}

absl::StatusOr<std::shared_ptr<const History>> SessionTable::NewestHistory(const SessionKey& key, Entry& entry,
                                                                           const Claim& claim) {
  if (entry.history != nullptr) {
    if (claim.fence == entry.fence) return entry.history;  // held: the journal was not asked
    if (!entry.history->durable) {
      CountFenced(key);
      return absl::AbortedError("SESSION_FENCED: turns of this session were lost with the journal");
    }
    if (entry.history->version == claim.version) return entry.history;
  }
  Keep(key, entry, nullptr);  // other workers went on, or closed it, or it was swept
  if (claim.version == 0) return std::make_shared<const History>();
  BERTH_ASSIGN_OR_RETURN(History loaded, journal_->Load(key));
  auto history = std::make_shared<const History>(std::move(loaded));
  Keep(key, entry, history);
  return history;
}

absl::StatusOr<Turn> SessionTable::BeginTurn(const SessionKey& key, const TurnOptions& options) {
  if (const auto found = entries_.find(key); found != entries_.end()) CatchUp(key, found->second).IgnoreError();
  Entry& entry = Touch(key);
  if (entry.running) return Busy(key);
  absl::StatusOr<Claim> claim = ClaimFor(key, entry, options);
  absl::StatusOr<Turn> turn = claim.ok() ? Grant(key, entry, *claim, options) : claim.status();
  if (!turn.ok()) {
    if (claim.ok()) Release(key, claim->fence);
    const auto found = entries_.find(key);
    if (found != entries_.end() && found->second.history == nullptr) Forget(key);
    if (!absl::IsDataLoss(turn.status()) || !options.start || !options.replace) return turn;
    BERTH_RETURN_IF_ERROR(DeleteUnreadable(key));
    return BeginTurn(key, options);
  }
  entry.running = true;
  EvictHistories();
  return turn;
}

absl::StatusOr<Turn> SessionTable::Grant(const SessionKey& key, Entry& entry, const Claim& claim, const TurnOptions& options) {
  BERTH_ASSIGN_OR_RETURN(std::shared_ptr<const History> history, NewestHistory(key, entry, claim));
  entry.fence = claim.fence;
  const bool expired = claim.version != 0 && clock_.Now() - history->last_used > options_.ttl;
  const bool exists = claim.version != 0 && !expired;
  Turn turn{.key = key, .request_id = options.request_id, .fence = claim.fence, .version = claim.version};
  if (exists && !options.request_id.empty() && history->last_request_id == options.request_id) {
    turn.history = history;
    turn.repeated = true;
    return turn;
  }
  if (exists && options.start && !options.replace) {
    return absl::AlreadyExistsError(absl::StrCat("SESSION_EXISTS: session \"", key.session_id, "\" is open"));
  }
  if (!exists && !options.start) return NotFound(key, expired ? " (expired)" : "");
  if (!exists && open_sessions_ >= options_.max_sessions) {
    return absl::ResourceExhaustedError(absl::StrCat("TOO_MANY_SESSIONS: ", options_.max_sessions, " sessions are open"));
  }
  BERTH_ASSIGN_OR_RETURN(turn.history, BeginAt(std::move(history), options));
  return turn;
}

std::shared_ptr<const History> SessionTable::Assume(const SessionKey& key, const TurnOptions& options) const {
  std::shared_ptr<const History> history;
  {
    base::MutexLock lock(copies_mutex_);
    const auto found = copies_.find(key);
    if (found != copies_.end()) history = found->second;
  }
  const bool refused = history == nullptr ? !options.start : options.start && !options.replace;
  if (refused || (history != nullptr && history->last_request_id == options.request_id)) return nullptr;
  if (history == nullptr) history = std::make_shared<const History>();
  return BeginAt(std::move(history), options).value_or(nullptr);
}

absl::StatusOr<int64_t> SessionTable::CommitTurn(const Turn& turn, TurnResult result) {
  const auto found = entries_.find(turn.key);
  if (found == entries_.end() || !found->second.running || found->second.fence != turn.fence) {
    return absl::AbortedError("SESSION_FENCED: the turn's claim is gone");
  }
  Entry& entry = found->second;
  entry.running = false;
  History after;
  after.tokens.assign(turn.history->tokens.begin(), turn.history->tokens.begin() + result.from_position);
  after.tokens.insert(after.tokens.end(), result.tokens.begin(), result.tokens.end());
  after.messages = std::move(result.messages);
  after.version = NextVersion(turn.fence, turn.version);
  after.last_request_id = turn.request_id;
  after.last_output_begin = result.output_begin;
  after.last_finish_reason = result.finish_reason;
  after.last_used = clock_.Now();
  const int64_t position = static_cast<int64_t>(after.tokens.size());
  if (result.end) {
    BERTH_RETURN_IF_ERROR(CloseTurn(turn, entry));
    return position;
  }
  const int64_t keep_messages = entry.history == nullptr ? 0 : CommonMessages(entry.history->messages, after.messages);
  const PendingCommit commit{.after = std::make_shared<const History>(std::move(after)),
                             .fence = turn.fence,
                             .from_version = turn.version,
                             .keep_tokens = entry.history == nullptr ? 0 : result.from_position,
                             .keep_messages = keep_messages};
  BERTH_RETURN_IF_ERROR(CommitOrKeep(turn.key, entry, commit).status());
  EvictHistories();
  return position;
}

// While the journal is gone the session stays as it was before the turn.
absl::Status SessionTable::CloseTurn(const Turn& turn, Entry& entry) {
  absl::Status closed = CatchUp(turn.key, entry);
  if (closed.ok()) {
    closed =
        journal_->Commit({.key = turn.key, .fence = turn.fence, .from_version = turn.version, .now = clock_.Now()}).status();
    if (absl::IsAborted(closed)) CountFenced(turn.key);
  }
  if (absl::IsUnavailable(closed)) {
    AbandonTurn(turn);
  } else {
    Forget(turn.key);
  }
  return closed;
}

void SessionTable::AbandonTurn(const Turn& turn) {
  const auto found = entries_.find(turn.key);
  if (found == entries_.end() || found->second.fence != turn.fence) return;
  found->second.running = false;
  Release(turn.key, turn.fence);
  if (turn.version == 0) Forget(turn.key);
}

absl::StatusOr<std::pair<std::string, int64_t>> SessionTable::Fork(const SessionKey& parent, std::optional<int64_t> position) {
  BERTH_ASSIGN_OR_RETURN(const Turn source, BeginTurn(parent, {.position = position}));
  AbandonTurn(source);
  const int64_t length = static_cast<int64_t>(source.history->tokens.size());
  for (int number = 1; number <= kMaxForks; ++number) {
    SessionKey child = parent;
    absl::StrAppend(&child.session_id, "~", number);
    const absl::StatusOr<Turn> turn = BeginTurn(child, {.start = true});
    if (absl::IsAlreadyExists(turn.status()) || absl::IsAborted(turn.status())) continue;
    if (!turn.ok()) return turn.status();
    TurnResult copy{.tokens = source.history->tokens, .messages = source.history->messages};
    BERTH_RETURN_IF_ERROR(CommitTurn(*turn, std::move(copy)).status());
    return std::make_pair(child.session_id, length);
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("TOO_MANY_SESSIONS: session \"", parent.session_id, "\" has ", kMaxForks, " branches"));
}

absl::StatusOr<bool> SessionTable::Close(const SessionKey& key) {
  const absl::StatusOr<Turn> turn = BeginTurn(key, {});
  if (absl::IsFailedPrecondition(turn.status())) return false;
  if (absl::IsDataLoss(turn.status())) {
    BERTH_RETURN_IF_ERROR(DeleteUnreadable(key));
    return true;
  }
  if (!turn.ok()) return turn.status();
  BERTH_RETURN_IF_ERROR(CommitTurn(*turn, {.end = true}).status());
  return true;
}

absl::Status SessionTable::DeleteUnreadable(const SessionKey& key) {
  BERTH_ASSIGN_OR_RETURN(const Claim claim, journal_->DoClaim({.key = key, .holder = options_.holder, .now = clock_.Now()}));
  absl::Status deleted =
      journal_->Commit({.key = key, .fence = claim.fence, .from_version = claim.version, .now = clock_.Now()}).status();
  if (!deleted.ok()) Release(key, claim.fence);
  Forget(key);
  return deleted;
}

absl::StatusOr<SessionInfo> SessionTable::Get(const SessionKey& key) {
  const auto found = entries_.find(key);
  std::shared_ptr<const History> history = found == entries_.end() ? nullptr : found->second.history;
  const bool busy = found != entries_.end() && found->second.running;
  const bool held = history != nullptr;
  const bool ahead = held && (!found->second.pending.empty() || !history->durable);  // of the journal
  if (!busy && !ahead) {
    absl::StatusOr<History> loaded = journal_->Load(key);
    if (absl::IsNotFound(loaded.status())) return NotFound(key);
    if (!loaded.ok()) return loaded.status();
    history = std::make_shared<const History>(*std::move(loaded));
  }
  if (history == nullptr) return SessionInfo{.busy = busy, .held = true};
  return SessionInfo{.position = static_cast<int64_t>(history->tokens.size()),
                     .version = history->version,
                     .busy = busy,
                     .durable = history->durable,
                     .held = held,
                     .idle = clock_.Now() - history->last_used};
}

// Copies of expired sessions go, so that they do not count as open. Their journal keeps them for another lifetime, in which
// they can still be told to have expired.
void SessionTable::Sweep() {
  const absl::Time expired_before = clock_.Now() - options_.ttl;
  for (auto key = recency_.begin(); key != recency_.end();) {
    const SessionKey& candidate = *key++;
    const Entry& entry = entries_.find(candidate)->second;
    if (entry.running || !entry.pending.empty()) continue;
    if (entry.history->last_used >= expired_before) break;
    Forget(SessionKey(candidate));
  }
  journal_->Sweep(expired_before - options_.ttl).IgnoreError();
}

}  // namespace berth::session
