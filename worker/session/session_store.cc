#include "worker/session/session_store.h"

#include <deque>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "worker/session/session_table.h"

namespace berth::session {
namespace {

constexpr absl::Duration kCatchUpInterval = absl::Seconds(1);
constexpr absl::Duration kSweepInterval = absl::Minutes(1);

}  // namespace

absl::Status SessionStoreOptions::Validate() const {
  if (holder.empty()) return absl::InvalidArgumentError("session holder is empty");
  if (ttl <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat("session-ttl is ", absl::FormatDuration(ttl), ", want more than 0"));
  }
  if (max_sessions < 1) return absl::InvalidArgumentError(absl::StrCat("max-sessions is ", max_sessions, ", want at least 1"));
  return absl::OkStatus();
}

// The journal thread and its queue. The table belongs to that thread.
class SessionStore::Impl {
 public:
  Impl(const SessionStoreOptions& options, std::unique_ptr<Journal> journal, const base::Clock& clock)
      : clock_(clock), domain_(journal->domain()), table_(options, std::move(journal), clock) {
    BERTH_CHECK(options.Validate().ok()) << options.Validate();
    thread_ = std::thread([this] { Run(); });
  }

  ~Impl() {
    {
      base::MutexLock lock(mutex_);
      stopping_ = true;
      wake_.NotifyOne();
    }
    thread_.join();
  }

  void Post(absl::AnyInvocable<void(SessionTable&)> task) {
    base::MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
    wake_.NotifyOne();
  }

  const SessionTable& table() const { return table_; }
  const std::string& domain() const { return domain_; }

 private:
  void Run() {
    absl::AnyInvocable<void(SessionTable&)> task;
    while (NextTask(&task)) {
      const bool waited = table_.has_pending();
      if (task) std::exchange(task, nullptr)(table_);
      if (!waited) {
        next_catch_up_ = clock_.Monotonic() + kCatchUpInterval;
      } else if (clock_.Monotonic() >= next_catch_up_) {
        table_.CatchUpAll();
        next_catch_up_ = clock_.Monotonic() + kCatchUpInterval;
      }
      if (clock_.Monotonic() < next_sweep_) continue;
      next_sweep_ = clock_.Monotonic() + kSweepInterval;
      table_.Sweep();
    }
    table_.CatchUpAll();
  }

  // Waits for a task; without one it returns in time for catching up and sweeping. False: stopped and empty.
  bool NextTask(absl::AnyInvocable<void(SessionTable&)>* task) {
    base::MutexLock lock(mutex_);
    while (tasks_.empty() && !stopping_) {
      const absl::Duration next = table_.has_pending() ? next_catch_up_ : next_sweep_;
      if (!wake_.WaitFor(mutex_, next - clock_.Monotonic())) break;
    }
    if (tasks_.empty()) return !stopping_;
    *task = std::move(tasks_.front());
    tasks_.pop_front();
    return true;
  }

  const base::Clock& clock_;
  const std::string domain_;
  SessionTable table_;
  // Of the journal thread.
  absl::Duration next_catch_up_;
  absl::Duration next_sweep_ = clock_.Monotonic() + kSweepInterval;

  base::Mutex mutex_;
  base::CondVar wake_;
  std::deque<absl::AnyInvocable<void(SessionTable&)>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

SessionStore::SessionStore(const SessionStoreOptions& options, std::unique_ptr<Journal> journal, const base::Clock& clock)
    : impl_(std::make_unique<Impl>(options, std::move(journal), clock)) {}

SessionStore::~SessionStore() = default;

void SessionStore::BeginTurn(const SessionKey& key, TurnOptions options, Callback<Turn> done) {
  impl_->Post([key, options = std::move(options), done = std::move(done)](SessionTable& table) mutable {
    done(table.BeginTurn(key, options));
  });
}

std::shared_ptr<const History> SessionStore::Assume(const SessionKey& key, const TurnOptions& options) const {
  return impl_->table().Assume(key, options);
}

void SessionStore::CommitTurn(const Turn& turn, TurnResult result, Callback<int64_t> done) {
  impl_->Post([turn, result = std::move(result), done = std::move(done)](SessionTable& table) mutable {
    done(table.CommitTurn(turn, std::move(result)));
  });
}

void SessionStore::AbandonTurn(const Turn& turn) {
  impl_->Post([turn](SessionTable& table) { table.AbandonTurn(turn); });
}

void SessionStore::Fork(const SessionKey& parent, std::optional<int64_t> position,
                        Callback<std::pair<std::string, int64_t>> done) {
  impl_->Post([parent, position, done = std::move(done)](SessionTable& table) mutable { done(table.Fork(parent, position)); });
}

void SessionStore::Close(const SessionKey& key, Callback<bool> done) {
  impl_->Post([key, done = std::move(done)](SessionTable& table) mutable { done(table.Close(key)); });
}

void SessionStore::Get(const SessionKey& key, Callback<SessionInfo> done) {
  impl_->Post([key, done = std::move(done)](SessionTable& table) mutable { done(table.Get(key)); });
}

int SessionStore::open_sessions() const { return impl_->table().open_sessions(); }
uint64_t SessionStore::fenced_commits() const { return impl_->table().fenced_commits(); }
std::string SessionStore::journal_domain() const { return impl_->domain(); }

}  // namespace berth::session
