#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/session/holder.h"
#include "worker/session/journal.h"
#include "worker/session/sqlite_statement.h"
#include "worker/session/turn_row.h"

namespace berth::session {
namespace {

constexpr int kBusyTimeoutMs = 250;
constexpr int kSchemaVersion = 2;

// `turn` rows are only ever appended: a history is the fold of its session's rows in order of version.
constexpr char kSchema[] = R"sql(
CREATE TABLE IF NOT EXISTS session (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  fence INTEGER NOT NULL,
  version INTEGER NOT NULL,
  holder TEXT NOT NULL,
  request_id TEXT NOT NULL,
  last_used INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS turn (
  session INTEGER NOT NULL REFERENCES session(id) ON DELETE CASCADE,
  version INTEGER NOT NULL,
  keep_tokens INTEGER NOT NULL,
  keep_messages INTEGER NOT NULL,
  tokens BLOB NOT NULL,
  messages BLOB NOT NULL,
  request_id TEXT NOT NULL,
  output_begin INTEGER NOT NULL,
  finish_reason INTEGER NOT NULL,
  PRIMARY KEY (session, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (last_fence INTEGER NOT NULL);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT * FROM counter);
)sql";

class SqliteJournal : public Journal {
 public:
  SqliteJournal(sqlite3* db, std::string domain, absl::AnyInvocable<void()> in_commit)
      : db_(db),
        domain_(std::move(domain)),
        in_commit_(std::move(in_commit)),
        begin_(db, "BEGIN IMMEDIATE"),
        commit_(db, "COMMIT"),
        rollback_(db, "ROLLBACK"),
        find_(db, "SELECT id, fence, version, holder, request_id, last_used FROM session WHERE key = ?"),
        next_fence_(db, "UPDATE counter SET last_fence = last_fence + 1 RETURNING last_fence"),
        insert_(db, "INSERT INTO session (key, fence, version, holder, request_id, last_used) VALUES (?, ?, 0, ?, ?, ?)"),
        claim_(db, "UPDATE session SET fence = ?, holder = ?, request_id = ? WHERE id = ?"),
        release_(db, "UPDATE session SET holder = '' WHERE key = ? AND fence = ?"),
        drop_unborn_(db, "DELETE FROM session WHERE key = ? AND fence = ? AND version = 0"),
        advance_(db,
                 "UPDATE session SET version = ?, holder = '', last_used = ? WHERE key = ? AND fence = ? AND "
                 "version = ? RETURNING id"),
        append_(db, "INSERT INTO turn VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        close_(db, "DELETE FROM session WHERE key = ? AND fence = ? AND version = ?"),
        turns_(
            db,
            "SELECT version, keep_tokens, keep_messages, tokens, messages, request_id, output_begin, finish_reason FROM turn "
            "WHERE session = ? ORDER BY version"),
        sweep_(db, "DELETE FROM session WHERE holder = '' AND last_used < ?") {}

  ~SqliteJournal() override {
    for (Statement* statement : {&begin_, &commit_, &rollback_, &find_, &next_fence_, &insert_, &claim_, &release_,
                                 &drop_unborn_, &advance_, &append_, &close_, &turns_, &sweep_}) {
      statement->Reset();
    }
    sqlite3_close_v2(db_);
  }

  absl::StatusOr<Claim> DoClaim(const ClaimRequest& request) override {
    absl::StatusOr<Claim> claim;
    BERTH_RETURN_IF_ERROR(InTransaction([&]() -> absl::Status {
      claim = ClaimInTransaction(request);
      return claim.status();
    }));
    return claim;
  }

  absl::StatusOr<uint64_t> Commit(const CommitRequest& request) override {
    BERTH_RETURN_IF_ERROR(InTransaction([&] { return CommitInTransaction(request); }));
    return request.after == nullptr ? 0 : NextVersion(request.fence, request.from_version);
  }

  absl::Status Release(const SessionKey& key, uint64_t fence) override {
    const std::string bytes = KeyBytes(key);
    return InTransaction([&]() -> absl::Status {
      for (Statement* statement : {&drop_unborn_, &release_}) {
        statement->Use().BindBlob(bytes).Bind(static_cast<int64_t>(fence));
        BERTH_RETURN_IF_ERROR(Done(*statement));
      }
      return absl::OkStatus();
    });
  }

  absl::StatusOr<History> Load(const SessionKey& key) override {
    absl::StatusOr<History> history;
    BERTH_RETURN_IF_ERROR(InTransaction([&]() -> absl::Status {
      history = LoadInTransaction(key);
      return history.status();
    }));
    return history;
  }

  absl::Status Sweep(absl::Time before) override {
    return InTransaction([&] { return Done(sweep_.Use().Bind(absl::ToUnixMicros(before))); });
  }

  std::string domain() const override { return domain_; }

 private:
  absl::StatusOr<Claim> ClaimInTransaction(const ClaimRequest& request) {
    const std::string key = KeyBytes(request.key);
    const int found = find_.Use().BindBlob(key).Step();
    if (found != SQLITE_DONE && found != SQLITE_ROW) return Unavailable();
    if (found == SQLITE_ROW && !MayTakeOver(request, find_.Blob(3), find_.Blob(4))) {
      return absl::AbortedError(absl::StrCat("SESSION_BUSY: ", std::string(find_.Blob(3)), " runs a turn of this session"));
    }
    if (next_fence_.Use().Step() != SQLITE_ROW) return Unavailable();
    const int64_t fence = next_fence_.Int(0);
    next_fence_.Reset();
    if (found == SQLITE_DONE) {
      insert_.Use().BindBlob(key).Bind(fence).Bind(request.holder).Bind(request.request_id);
      BERTH_RETURN_IF_ERROR(Done(insert_.Bind(absl::ToUnixMicros(request.now))));
      return Claim{.fence = static_cast<uint64_t>(fence)};
    }
    const Claim claim{.fence = static_cast<uint64_t>(fence), .version = static_cast<uint64_t>(find_.Int(2))};
    BERTH_RETURN_IF_ERROR(Done(claim_.Use().Bind(fence).Bind(request.holder).Bind(request.request_id).Bind(find_.Int(0))));
    return claim;
  }

  absl::Status CommitInTransaction(const CommitRequest& request) {
    if (in_commit_) in_commit_();
    const std::string key = KeyBytes(request.key);
    const auto fence = static_cast<int64_t>(request.fence);
    const auto version = static_cast<int64_t>(request.from_version);
    if (request.after == nullptr) {
      BERTH_RETURN_IF_ERROR(Done(close_.Use().BindBlob(key).Bind(fence).Bind(version)));
      return sqlite3_changes(db_) == 1 ? absl::OkStatus() : Fenced();
    }
    const int64_t next_version = static_cast<int64_t>(NextVersion(request.fence, request.from_version));
    advance_.Use().Bind(next_version).Bind(absl::ToUnixMicros(request.now));
    advance_.BindBlob(key).Bind(fence).Bind(version);
    const int advanced = advance_.Step();
    if (advanced == SQLITE_DONE) return Fenced();
    if (advanced != SQLITE_ROW) return Unavailable();
    const int64_t session = advance_.Int(0);
    advance_.Reset();
    const TurnRow row = MakeTurnRow(request);
    append_.Use().Bind(session).Bind(next_version).Bind(row.keep_tokens).Bind(row.keep_messages).BindBlob(row.tokens);
    return Done(append_.BindBlob(row.messages).Bind(row.request_id).Bind(row.output_begin).Bind(row.finish_reason));
  }

  absl::StatusOr<History> LoadInTransaction(const SessionKey& session_key) {
    const std::string key = KeyBytes(session_key);
    const int found = find_.Use().BindBlob(key).Step();
    if (found == SQLITE_DONE || (found == SQLITE_ROW && find_.Int(2) == 0)) {
      return absl::NotFoundError(absl::StrCat("SESSION_NOT_FOUND: no session \"", session_key.session_id, "\""));
    }
    if (found != SQLITE_ROW) return Unavailable();
    History history;
    history.last_used = absl::FromUnixMicros(find_.Int(5));
    turns_.Use().Bind(find_.Int(0));
    int row = SQLITE_DONE;
    while ((row = turns_.Step()) == SQLITE_ROW) BERTH_RETURN_IF_ERROR(Fold(Row(), &history));
    if (row != SQLITE_DONE) return Unavailable();
    return history;
  }

  // The current row of `turns_`.
  TurnRow Row() const {
    return {.version = static_cast<uint64_t>(turns_.Int(0)),
            .keep_tokens = turns_.Int(1),
            .keep_messages = turns_.Int(2),
            .tokens = turns_.Blob(3),
            .messages = std::string(turns_.Blob(4)),
            .request_id = turns_.Blob(5),
            .output_begin = turns_.Int(6),
            .finish_reason = turns_.Int(7)};
  }

  template <typename Body>
  absl::Status InTransaction(Body body) {
    if (begin_.Use().Step() != SQLITE_DONE) return Unavailable();
    absl::Status status = body();
    for (Statement* statement : {&find_, &next_fence_, &turns_, &advance_}) statement->Reset();
    if (status.ok() && commit_.Use().Step() != SQLITE_DONE) status = Unavailable();
    if (!status.ok()) rollback_.Use().Step();
    return status;
  }

  absl::Status Done(Statement& statement) {
    const bool done = statement.Step() == SQLITE_DONE;
    statement.Reset();
    return done ? absl::OkStatus() : Unavailable();
  }

  absl::Status Unavailable() const {
    return absl::UnavailableError(absl::StrCat("JOURNAL_UNAVAILABLE: ", domain_, ": ", sqlite3_errmsg(db_)));
  }
  static absl::Status Fenced() { return absl::AbortedError("SESSION_FENCED: another worker has claimed this session since"); }

  sqlite3* const db_;
  const std::string domain_;
  absl::AnyInvocable<void()> in_commit_;
  Statement begin_, commit_, rollback_, find_, next_fence_, insert_, claim_, release_, drop_unborn_, advance_, append_, close_,
      turns_, sweep_;
};

absl::Status Execute(sqlite3* db, const std::string& path, const char* sql) {
  if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return absl::OkStatus();
  const std::string message = absl::StrCat("journal ", path, ": ", sqlite3_errmsg(db));
  return sqlite3_errcode(db) == SQLITE_NOTADB ? absl::InvalidArgumentError(message) : absl::UnavailableError(message);
}

// Held while a journal is opened: of two processes that switch a new file to WAL at once, SQLite refuses one without waiting.
class OpeningLock {
 public:
  explicit OpeningLock(const std::string& path) : file_(open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (file_ >= 0) flock(file_, LOCK_EX);
  }
  ~OpeningLock() {
    if (file_ >= 0) close(file_);
  }
  OpeningLock(const OpeningLock&) = delete;
  OpeningLock& operator=(const OpeningLock&) = delete;

 private:
  const int file_;
};

// Conversations are their owner's: SQLite itself makes files that all may read. Only a new file is opened here, as closing one
// drops the process's locks on it.
void CreatePrivate(const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file >= 0) close(file);
}

absl::Status Prepare(sqlite3* db, const std::string& path) {
  sqlite3_busy_timeout(db, kBusyTimeoutMs);
  BERTH_RETURN_IF_ERROR(Execute(db, path, "PRAGMA journal_mode = WAL"));
  BERTH_RETURN_IF_ERROR(Execute(db, path, "PRAGMA synchronous = NORMAL"));
  BERTH_RETURN_IF_ERROR(Execute(db, path, "PRAGMA foreign_keys = ON"));
  Statement version(db, "PRAGMA user_version");
  const int64_t found = version.Step() == SQLITE_ROW ? version.Int(0) : 0;
  version.Reset();
  if (found != 0 && found != kSchemaVersion) {
    return absl::InvalidArgumentError(absl::StrCat("journal ", path, " has schema version ", found, ", want ", kSchemaVersion));
  }
  BERTH_RETURN_IF_ERROR(Execute(db, path, kSchema));
  return Execute(db, path, absl::StrCat("PRAGMA user_version = ", kSchemaVersion).c_str());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(const std::string& path, absl::AnyInvocable<void()> in_commit) {
  const OpeningLock lock(path);
  CreatePrivate(path);
  sqlite3* db = nullptr;
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int opened = sqlite3_open_v2(path.c_str(), &db, kFlags, nullptr);
  absl::Status status = opened == SQLITE_OK
                            ? Prepare(db, path)
                            : absl::UnavailableError(absl::StrCat("journal ", path, ": ", sqlite3_errstr(opened)));
  if (!status.ok()) {
    sqlite3_close_v2(db);
    return status;
  }
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  return std::make_unique<SqliteJournal>(db, absl::StrCat("sqlite:", host, ":", path), std::move(in_commit));
}

}  // namespace berth::session
