#pragma once

#include <functional>
#include <string>
#include <thread>

#include "base/mutex.h"

namespace berth::cli {

// While it exists, a terminal at standard error shows how long something has taken, each second, and how much of it is done, if
// that is known. It has room in 80 columns. What others write there meanwhile takes its place. Nothing where that is no
// terminal.
class ElapsedLine {
 public:
  // `rest`, of the seconds that have passed, ends the line each time: thread-safe.
  explicit ElapsedLine(std::string what, std::function<std::string(int seconds)> rest = {});
  ~ElapsedLine();

  // Of weights. Any thread.
  void SetPercent(int percent);

 private:
  void Show() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string what_;
  const std::function<std::string(int)> rest_;
  const bool terminal_;
  base::Mutex mutex_;
  int seconds_ ABSL_GUARDED_BY(mutex_) = 0;
  int percent_ ABSL_GUARDED_BY(mutex_) = -1;  // negative: not known
  base::Notification done_;
  std::thread thread_;
};

}  // namespace berth::cli
