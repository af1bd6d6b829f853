#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "worker/engine/executor.h"
#include "worker/runtime/model_runner.h"

namespace berth::runtime {

// What one device runs with, in the order in which it is made.
struct RunnerDevice {
  std::unique_ptr<kernels::Allocator> memory, staging;
  std::unique_ptr<kernels::Ops> ops;
  std::unique_ptr<ModelRunner> runner;
};

// An engine::Executor without a thread: Submit puts a plan into the device's queue and Await waits for the device, both on the
// engine thread (docs/decisions/0004). For devices that compute by themselves.
class QueuedExecutor : public engine::Executor {
 public:
  QueuedExecutor(const engine::ExecutorLimits& limits, RunnerDevice device);
  // Waits for what is queued.
  ~QueuedExecutor() override;

  engine::ExecutorLimits limits() const override { return limits_; }
  void Submit(engine::StepPlan plan) override;
  absl::StatusOr<engine::StepResult> Await() override;

 private:
  const engine::ExecutorLimits limits_;
  RunnerDevice device_;
  absl::Status fault_;  // the first; nothing is queued after it
};

}  // namespace berth::runtime
