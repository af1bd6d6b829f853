#include "worker/runtime/device_executor.h"

#include <gtest/gtest.h>

#include <atomic>

namespace berth::runtime {
namespace {

using engine::StepPlan;
using engine::StepPlanBuilder;
using engine::StepResult;

constexpr engine::ExecutorLimits kLimits = {.slots = 1, .kv_blocks = 1, .max_step_tokens = 1, .max_length = 64, .max_depth = 2};

StepPlan Plan(uint64_t step) { return StepPlanBuilder(step).Build(); }

TEST(DeviceExecutorTest, PlansRunInOrderOnAnotherThread) {
  const std::thread::id caller = std::this_thread::get_id();
  DeviceExecutor executor(kLimits, [caller](const StepPlan& plan) -> absl::StatusOr<StepResult> {
    EXPECT_NE(std::this_thread::get_id(), caller);
    return StepResult{.step = plan.step()};
  });
  executor.Submit(Plan(1));
  for (uint64_t step = 2; step < 50; ++step) {
    executor.Submit(Plan(step));
    ASSERT_EQ(executor.Await()->step, step - 1);
  }
  EXPECT_EQ(executor.Await()->step, 49u);
}

TEST(DeviceExecutorTest, SubmitDoesNotWaitForThePlan) {
  base::Notification release;
  DeviceExecutor executor(kLimits, [&](const StepPlan& plan) -> absl::StatusOr<StepResult> {
    release.Wait();
    return StepResult{.step = plan.step()};
  });
  executor.Submit(Plan(1));
  executor.Submit(Plan(2));
  release.Notify();
  EXPECT_EQ(executor.Await()->step, 1u);
  EXPECT_EQ(executor.Await()->step, 2u);
}

TEST(DeviceExecutorTest, AFaultStays) {
  std::atomic<int> runs = 0;
  DeviceExecutor executor(kLimits, [&](const StepPlan&) -> absl::StatusOr<StepResult> {
    ++runs;
    return absl::UnavailableError("the device is gone");
  });
  executor.Submit(Plan(1));
  executor.Submit(Plan(2));
  EXPECT_EQ(executor.Await().status().message(), "the device is gone");
  EXPECT_EQ(executor.Await().status().message(), "the device is gone");
  EXPECT_EQ(runs, 1);
}

TEST(DeviceExecutorTest, EndsWithPlansInFlight) {
  base::Notification running, release;
  auto executor = std::make_unique<DeviceExecutor>(kLimits, [&](const StepPlan& plan) -> absl::StatusOr<StepResult> {
    if (plan.step() == 1) running.Notify();
    release.Wait();
    return StepResult{};
  });
  executor->Submit(Plan(1));
  executor->Submit(Plan(2));
  running.Wait();
  std::thread ender([&] { executor.reset(); });
  release.Notify();
  ender.join();
}

}  // namespace
}  // namespace berth::runtime
