#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "clients/cli/child_process.h"
#include "clients/cli/ready_line.h"

namespace berth::cli {

// A `berth serve` of this process's own, with its log kept out of sight. Thread: the process's main thread.
class LocalServer {
 public:
  // `arguments`: the program and its flags. Returns when it is ready; UNAVAILABLE with the last lines of its log when it ends
  // before. `on_loaded` hears meanwhile how much of the weights is loaded, from another thread.
  static absl::StatusOr<std::unique_ptr<LocalServer>> Start(std::vector<std::string> arguments,
                                                            std::function<void(int percent)> on_loaded);
  // Stops it in order, as the death of this process does.
  ~LocalServer();

  const ReadyLine& ready() const { return ready_; }

 private:
  LocalServer(std::unique_ptr<ChildProcess> child, std::function<void(int)> on_loaded);
  // Reads what the child writes until it closes its pipes: the reader's thread.
  void Read();
  const std::unique_ptr<ChildProcess> child_;
  const std::function<void(int)> on_loaded_;  // not after it is ready
  ReadyLine ready_;
  base::Mutex mutex_;
  base::Notification settled_;  // ready, or never
  bool is_ready_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::string> log_ ABSL_GUARDED_BY(mutex_);
  std::thread reader_;
};

}  // namespace berth::cli
