#pragma once

#include <cstdint>
#include <deque>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/executor.h"
#include "worker/engine/step_plan.h"
#include "worker/runtime/sim_device.h"

namespace berth::testing {

// The strict simulated device without a thread: a plan runs when it is awaited, so whatever the engine does between Submit and
// Await really happens while the plan is in flight.
class FakeExecutor : public engine::Executor {
 public:
  explicit FakeExecutor(const runtime::SimDeviceOptions& options) : device_(options) {}

  engine::ExecutorLimits limits() const override { return device_.limits(); }
  void Submit(engine::StepPlan plan) override { plans_.push_back(std::move(plan)); }
  absl::StatusOr<engine::StepResult> Await() override {
    if (steps_left_ == 0) return absl::UnavailableError("the device fell off the bus");
    if (steps_left_ > 0) --steps_left_;
    const engine::StepPlan plan = std::move(plans_.front());
    plans_.pop_front();
    return device_.Run(plan);
  }

  // Every step after `steps` more is a device fault.
  void FailAfter(int64_t steps) { steps_left_ = steps; }
  int in_flight() const { return static_cast<int>(plans_.size()); }

 private:
  runtime::SimDevice device_;
  std::deque<engine::StepPlan> plans_;
  int64_t steps_left_ = -1;
};

}  // namespace berth::testing
