#pragma once

#include <deque>
#include <utility>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "gateway/discovery/source.h"

namespace berth::discovery {

// What a source reports, in order.
class Reports {
 public:
  OnWorkers Sink() {
    return [this](absl::StatusOr<std::vector<routing::WorkerAddress>> workers) {
      base::MutexLock lock(mutex_);
      reports_.push_back(std::move(workers));
      changed_.NotifyAll();
    };
  }
  // Waits for the next one; DEADLINE_EXCEEDED when none comes.
  absl::StatusOr<std::vector<routing::WorkerAddress>> Next() {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    base::MutexLock lock(mutex_);
    while (reports_.empty()) {
      if (absl::Now() > deadline) return absl::DeadlineExceededError("no report");
      changed_.WaitFor(mutex_, absl::Seconds(1));
    }
    absl::StatusOr<std::vector<routing::WorkerAddress>> report = std::move(reports_.front());
    reports_.pop_front();
    return report;
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<absl::StatusOr<std::vector<routing::WorkerAddress>>> reports_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace berth::discovery
