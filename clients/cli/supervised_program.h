#pragma once

#include <poll.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "clients/cli/child_process.h"
#include "clients/cli/ready_line.h"
#include "clients/cli/watchdog_socket.h"
#include "spdlog/logger.h"

namespace berth::cli {

// One program that is kept alive: started, heard, started again after a pause when it dies. Times are monotonic. Thread: the
// owner's.
class SupervisedProgram {
 public:
  struct Options {
    std::string name;
    std::function<std::vector<std::string>()> arguments;  // asked at each start
    bool watched = false;                                 // by a watchdog socket
  };

  SupervisedProgram(Options options, spdlog::sink_ptr log);

  const std::string& name() const { return options_.name; }
  bool running() const { return child_ != nullptr; }
  // Its last ready line, from the start that printed it on; never unset again.
  const std::optional<ReadyLine>& ready() const { return ready_; }

  // How much of its model's weights it has loaded, as far as it says.
  int loaded_percent() const { return loaded_percent_; }

  absl::Status Start(absl::Duration now);
  void Signal(int number) const;

  // What to wait for, and until when.
  void AppendPolls(std::vector<pollfd>& polls) const;
  absl::Duration deadline() const;

  // Reads what the program wrote and notes whether it has ended: then a description of how, once.
  std::optional<std::string> Hear(absl::Duration now);
  // Kills a silent program; starts one whose pause is over.
  absl::Status Tick(absl::Duration now);
  // After it ended: start it again when the pause is over.
  void RestartLater(absl::Duration now);

 private:
  void HearLines(LineReader& reader, bool may_be_ready);

  const Options options_;
  spdlog::logger log_;
  std::unique_ptr<WatchdogSocket> watchdog_;
  std::unique_ptr<ChildProcess> child_;
  std::optional<LineReader> output_, errors_;
  std::optional<ReadyLine> ready_;
  bool awaiting_ready_ = false;
  int loaded_percent_ = 0;
  absl::Duration started_at_;
  absl::Duration pause_;  // before the next restart
  absl::Duration restart_at_ = absl::InfiniteDuration();
  absl::Duration silent_at_ = absl::InfiniteDuration();  // when the watchdog's patience ends
};

}  // namespace berth::cli
