#include "worker/runtime/queued_executor.h"

#include <utility>

namespace berth::runtime {

QueuedExecutor::QueuedExecutor(const engine::ExecutorLimits& limits, RunnerDevice device)
    : limits_(limits), device_(std::move(device)) {}

QueuedExecutor::~QueuedExecutor() { device_.ops->Sync().IgnoreError(); }

void QueuedExecutor::Submit(engine::StepPlan plan) {
  if (fault_.ok()) fault_ = device_.runner->Submit(plan);
}

absl::StatusOr<engine::StepResult> QueuedExecutor::Await() {
  if (!fault_.ok()) return fault_;
  absl::StatusOr<engine::StepResult> result = device_.runner->Await();
  fault_ = result.status();
  return result;
}

}  // namespace berth::runtime
