#include "clients/cli/supervised_program.h"

#include <signal.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::cli {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(200);
constexpr absl::Duration kLongestPause = absl::Seconds(30);
// A program that lived this long begins again with the first pause.
constexpr absl::Duration kGoodLife = absl::Seconds(60);

}  // namespace

SupervisedProgram::SupervisedProgram(Options options, spdlog::sink_ptr log)
    : options_(std::move(options)), log_(options_.name, std::move(log)), pause_(kFirstPause) {}

absl::Status SupervisedProgram::Start(absl::Duration now) {
  restart_at_ = silent_at_ = absl::InfiniteDuration();
  ChildProcess::Options options{.arguments = options_.arguments()};
  if (options_.watched) {
    // A new socket for each life: a late word of the last one does not count.
    BERTH_ASSIGN_OR_RETURN(watchdog_, WatchdogSocket::Open());
    options.environment = watchdog_->Environment();
  }
  BERTH_ASSIGN_OR_RETURN(child_, ChildProcess::Start(options));
  output_.emplace(child_->output());
  errors_.emplace(child_->errors());
  awaiting_ready_ = true;
  started_at_ = now;
  return absl::OkStatus();
}

void SupervisedProgram::Signal(int number) const {
  if (child_ != nullptr) child_->Signal(number);
}

void SupervisedProgram::AppendPolls(std::vector<pollfd>& polls) const {
  if (child_ == nullptr) return;
  if (!output_->at_end()) polls.push_back({child_->output(), POLLIN, 0});
  if (!errors_->at_end()) polls.push_back({child_->errors(), POLLIN, 0});
  if (watchdog_ != nullptr) polls.push_back({watchdog_->descriptor(), POLLIN, 0});
}

absl::Duration SupervisedProgram::deadline() const { return std::min(restart_at_, silent_at_); }

void SupervisedProgram::HearLines(LineReader& reader, bool may_be_ready) {
  for (const std::string& line : reader.Read()) {
    const absl::StatusOr<ReadyLine> ready = ParseReadyLine(line);
    if (may_be_ready && awaiting_ready_ && ready.ok()) {
      ready_ = *ready;
      awaiting_ready_ = false;
    } else {
      log_.info(line);
    }
  }
}

std::optional<std::string> SupervisedProgram::Hear(absl::Duration now) {
  if (child_ == nullptr) return std::nullopt;
  const bool ended = child_->Ended();  // before reading: its last words are in the pipes then
  HearLines(*output_, true);
  HearLines(*errors_, false);
  if (watchdog_ != nullptr) {
    const WatchdogSocket::Heard heard = watchdog_->Take();
    if (heard.well) silent_at_ = now + kWatchdogPatience;
    loaded_percent_ = heard.loaded_percent.value_or(loaded_percent_);
  }
  if (!ended) return std::nullopt;
  const std::string how = DescribeExit(child_->exit_status());
  child_ = nullptr;
  silent_at_ = absl::InfiniteDuration();
  return how;
}

void SupervisedProgram::RestartLater(absl::Duration now) {
  if (now - started_at_ > kGoodLife) pause_ = kFirstPause;
  restart_at_ = now + pause_;
  pause_ = std::min(pause_ * 2, kLongestPause);
}

absl::Status SupervisedProgram::Tick(absl::Duration now) {
  if (now >= silent_at_) {
    log_.warn("silent for {}: killed", absl::FormatDuration(kWatchdogPatience));
    silent_at_ = absl::InfiniteDuration();
    Signal(SIGKILL);
  }
  if (now < restart_at_) return absl::OkStatus();
  log_.info("starting again");
  return Start(now);
}

}  // namespace berth::cli
