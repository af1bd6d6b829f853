#include "clients/cli/local_server.h"

#include <poll.h>
#include <signal.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace berth::cli {
namespace {

constexpr size_t kLogLines = 30;

}  // namespace

absl::StatusOr<std::unique_ptr<LocalServer>> LocalServer::Start(std::vector<std::string> arguments,
                                                                std::function<void(int percent)> on_loaded) {
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> child,
                         ChildProcess::Start({.arguments = std::move(arguments), .death_signal = SIGTERM}));
  std::unique_ptr<LocalServer> server(new LocalServer(std::move(child), std::move(on_loaded)));
  server->settled_.Wait();
  base::MutexLock lock(server->mutex_);
  if (server->is_ready_) return server;
  return absl::UnavailableError(absl::StrCat("the server did not start:\n", absl::StrJoin(server->log_, "\n")));
}

LocalServer::LocalServer(std::unique_ptr<ChildProcess> child, std::function<void(int)> on_loaded)
    : child_(std::move(child)), on_loaded_(std::move(on_loaded)), reader_([this] { Read(); }) {}

LocalServer::~LocalServer() {
  child_->Signal(SIGTERM);
  reader_.join();  // the pipes close when the server and all its children are gone
}

void LocalServer::Read() {
  // A Ctrl-C is for the main thread, as long as that does not block it.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  LineReader output(child_->output()), errors(child_->errors());
  while (!output.at_end() || !errors.at_end()) {
    pollfd polls[] = {{output.at_end() ? -1 : child_->output(), POLLIN, 0},
                      {errors.at_end() ? -1 : child_->errors(), POLLIN, 0}};
    poll(polls, 2, -1);
    const std::vector<std::string> written = output.Read(), logged = errors.Read();
    base::MutexLock lock(mutex_);
    for (const std::string& line : written) {
      if (is_ready_) continue;
      if (const absl::StatusOr<int> percent = ParseLoadedLine(line); percent.ok()) on_loaded_(*percent);
      const absl::StatusOr<ReadyLine> ready = ParseReadyLine(line);
      if (!ready.ok()) continue;
      ready_ = *ready;
      is_ready_ = true;
      settled_.Notify();
    }
    log_.insert(log_.end(), logged.begin(), logged.end());
    while (log_.size() > kLogLines) log_.pop_front();
  }
  settled_.Notify();
}

}  // namespace berth::cli
