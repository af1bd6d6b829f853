#include "worker/runtime/device_executor.h"

#include <utility>

#include "base/check.h"

namespace berth::runtime {

DeviceExecutor::DeviceExecutor(const engine::ExecutorLimits& limits, RunPlan run)
    : limits_(limits), run_(std::move(run)), thread_([this] { Loop(); }) {}

DeviceExecutor::~DeviceExecutor() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    submitted_.NotifyOne();
  }
  thread_.join();
}

void DeviceExecutor::Submit(engine::StepPlan plan) {
  base::MutexLock lock(mutex_);
  BERTH_CHECK(in_flight_ < limits_.max_depth) << "more than " << limits_.max_depth << " plans in flight";
  ++in_flight_;
  plans_.push_back(std::move(plan));
  submitted_.NotifyOne();
}

absl::StatusOr<engine::StepResult> DeviceExecutor::Await() {
  base::MutexLock lock(mutex_);
  BERTH_CHECK(in_flight_ > 0) << "no plan in flight";
  while (results_.empty()) finished_.Wait(mutex_);
  absl::StatusOr<engine::StepResult> result = std::move(results_.front());
  results_.pop_front();
  --in_flight_;
  return result;
}

void DeviceExecutor::Loop() {
  absl::Status fault;
  while (true) {
    engine::StepPlan plan;
    {
      base::MutexLock lock(mutex_);
      while (plans_.empty() && !stopping_) submitted_.Wait(mutex_);
      if (stopping_) return;
      plan = std::move(plans_.front());
      plans_.pop_front();
    }
    absl::StatusOr<engine::StepResult> result = fault.ok() ? run_(plan) : fault;
    fault = result.status();
    base::MutexLock lock(mutex_);
    results_.push_back(std::move(result));
    finished_.NotifyOne();
  }
}

}  // namespace berth::runtime
