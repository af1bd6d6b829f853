#pragma once

#include <cstdint>
#include <functional>
#include <utility>

namespace berth::loader {

// Hears of weights that have been brought or checked, `done` of `total`. Null: nobody wants to.
using Progress = std::function<void(int64_t done, int64_t total)>;

class ProgressMeter {
 public:
  ProgressMeter(Progress report, int64_t total) : report_(std::move(report)), total_(total) {}

  void Add(int64_t numbers) {
    done_ += numbers;
    if (report_) report_(done_, total_);
  }

 private:
  const Progress report_;
  const int64_t total_;
  int64_t done_ = 0;
};

}  // namespace berth::loader
