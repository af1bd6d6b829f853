#pragma once

#include <string>
#include <thread>

#include "base/mutex.h"

namespace berth::cli {

// While it exists, a terminal at standard error shows how long something has taken, each second. What others write there
// meanwhile takes its place. Nothing where that is no terminal.
class ElapsedLine {
 public:
  explicit ElapsedLine(std::string what);
  ~ElapsedLine();

 private:
  void Show(int seconds) const;

  const std::string what_;
  const bool terminal_;
  base::Notification done_;
  std::thread thread_;
};

}  // namespace berth::cli
