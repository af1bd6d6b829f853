#pragma once

#include <atomic>
#include <cstddef>
#include <string>

#include "clients/cli/elapsed_line.h"

namespace berth::cli {

// ", 120 of 350 requests, 10.0 a second"
std::string RequestsText(size_t ended, size_t total, int seconds);

// While it exists, a terminal at standard error shows how many of a benchmark's requests have ended. Counting costs a run
// nothing.
class BenchProgress {
 public:
  // Of all runs, also those that are discarded.
  explicit BenchProgress(size_t total);

  // Any thread.
  void Ended(size_t requests) { ended_ += requests; }

 private:
  std::atomic<size_t> ended_ = 0;
  ElapsedLine line_;
};

}  // namespace berth::cli
