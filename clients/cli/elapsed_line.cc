#include "clients/cli/elapsed_line.h"

#include <unistd.h>

#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "clients/cli/progress_bar.h"

namespace berth::cli {

ElapsedLine::ElapsedLine(std::string what, std::function<std::string(int)> rest)
    : what_(std::move(what)), rest_(std::move(rest)), terminal_(isatty(STDERR_FILENO) != 0) {
  if (!terminal_) return;
  {
    base::MutexLock lock(mutex_);
    Show();
  }
  thread_ = std::thread([this] {
    while (!done_.WaitFor(absl::Seconds(1))) {
      base::MutexLock lock(mutex_);
      ++seconds_;
      Show();
    }
  });
}

ElapsedLine::~ElapsedLine() {
  if (!terminal_) return;
  done_.Notify();
  thread_.join();
  std::cerr << "\x1b[K" << std::flush;
}

void ElapsedLine::SetPercent(int percent) {
  base::MutexLock lock(mutex_);
  if (std::exchange(percent_, percent) != percent && terminal_) Show();
}

// The cursor goes back to the begin of the line, over which a log writes.
void ElapsedLine::Show() const {
  const std::string share = percent_ < 0 ? "" : absl::StrCat(" ", BarText(percent_), " of the weights");
  std::cerr << absl::StrCat(what_, ", ", seconds_, " s", rest_ ? rest_(seconds_) : "", share, "\x1b[K\r") << std::flush;
}

}  // namespace berth::cli
