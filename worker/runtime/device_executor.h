#pragma once

#include <deque>
#include <memory>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "worker/engine/executor.h"

namespace berth::runtime {

// An engine::Executor with a thread of its own, which alone runs plans: the device may have been set up by another thread
// before, but is never used by two at once.
class DeviceExecutor : public engine::Executor {
 public:
  // Runs one plan on the executor thread. Its error is a device fault: later plans are not run and get the same error.
  using RunPlan = absl::AnyInvocable<absl::StatusOr<engine::StepResult>(const engine::StepPlan&)>;

  DeviceExecutor(const engine::ExecutorLimits& limits, RunPlan run);
  // Finishes the plan that is running, drops the others and joins.
  ~DeviceExecutor() override;

  engine::ExecutorLimits limits() const override { return limits_; }
  void Submit(engine::StepPlan plan) override;
  absl::StatusOr<engine::StepResult> Await() override;

 private:
  void Loop();

  const engine::ExecutorLimits limits_;
  RunPlan run_;
  base::Mutex mutex_;
  base::CondVar submitted_, finished_;
  std::deque<engine::StepPlan> plans_ ABSL_GUARDED_BY(mutex_);
  std::deque<absl::StatusOr<engine::StepResult>> results_ ABSL_GUARDED_BY(mutex_);
  int in_flight_ ABSL_GUARDED_BY(mutex_) = 0;  // submitted and not awaited
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace berth::runtime
