#include "worker/runtime/sim_executor.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

#include "base/clock.h"

namespace berth::runtime {
namespace {

using engine::StepPlan;
using engine::StepPlanBuilder;

SimExecutorOptions Options() {
  return {.device = {.limits = {.slots = 2, .kv_blocks = 8, .max_step_tokens = 128, .max_length = 256, .max_depth = 2},
                     .vocabulary = {.begin = 100, .end = 1100}}};
}

const std::vector<int32_t> kPrompt = {1, 2, 3};

// Step 1 admits a sequence and draws one token, each later one draws another.
StepPlan Plan(uint64_t step) {
  StepPlanBuilder builder(step);
  if (step > 1) {
    builder.DecodeRow({.slot = 0, .generation = 1, .position = static_cast<int32_t>(step) + 1, .sample = 1});
    return builder.Build();
  }
  builder.Admit({.slot = 0, .generation = 1}, {.prompt_length = 3}, kPrompt);
  builder.Block({.slot = 0, .block = 4});
  builder.Row({.slot = 0, .generation = 1, .sample = 1}, kPrompt);
  return builder.Build();
}

std::vector<int32_t> RunSteps(SimExecutor& executor, int steps) {
  std::vector<int32_t> tokens;
  for (int step = 1; step <= steps; ++step) {
    executor.Submit(Plan(step));
    const auto result = executor.Await();
    EXPECT_TRUE(result.ok()) << result.status();
    if (result.ok()) tokens.push_back(result->rows.at(0).token);
  }
  return tokens;
}

TEST(SimExecutorTest, PlansInFlightComeBackInOrder) {
  SimExecutor executor(Options());
  std::vector<int32_t> tokens;
  executor.Submit(Plan(1));
  for (uint64_t step = 2; step <= 40; ++step) {
    executor.Submit(Plan(step));
    const auto result = executor.Await();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->step, step - 1);
    tokens.push_back(result->rows.at(0).token);
  }
  EXPECT_EQ(tokens, SimOutput(Options().device.vocabulary, {.tokens = kPrompt, .prompt_length = 3, .max_tokens = 39}));
}

TEST(SimExecutorTest, AWrongPlanIsAnError) {
  SimExecutor executor(Options());
  executor.Submit(Plan(2));
  EXPECT_EQ(executor.Await().status().code(), absl::StatusCode::kInternal);
}

TEST(SimExecutorTest, StepsTakeTheirTimeAndPromptsMore) {
  SimExecutorOptions options = Options();
  options.step_time = absl::Milliseconds(5);
  options.prefill_tokens_per_second = 300;  // 10 ms for the prompt
  options.faults.slow_factor = 2;
  SimExecutor executor(options);
  const absl::Duration begin = base::SystemClock().Monotonic();
  RunSteps(executor, 3);
  EXPECT_GE(base::SystemClock().Monotonic() - begin, absl::Milliseconds(2 * (10 + 3 * 5)));
}

TEST(SimExecutorTest, AStalledStepDoesNotBlockSubmitAndEndsWhenTold) {
  SimExecutorOptions options = Options();
  options.faults.stall_after_tokens = 2;
  SimExecutor executor(options);
  EXPECT_EQ(RunSteps(executor, 2).size(), 2);
  executor.Submit(Plan(3));
  executor.Submit(Plan(4));
  executor.EndStall();
  EXPECT_EQ(executor.Await()->step, 3);
  EXPECT_EQ(executor.Await()->step, 4);
}

TEST(SimExecutorTest, EndsAtOnceDuringALongOrStalledStep) {
  SimExecutorOptions options = Options();
  options.step_time = absl::Hours(1);
  SimExecutor(options).Submit(Plan(1));
  options.faults.stall_after_tokens = 0;
  SimExecutor(options).Submit(Plan(1));
}

TEST(SimExecutorDeathTest, FaultsEndTheProcess) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  SimExecutorOptions exits = Options();
  exits.faults.exit_after_tokens = 2;
  EXPECT_EXIT(
      {
        SimExecutor executor(exits);
        RunSteps(executor, 2);
        fprintf(stderr, "two tokens came");
        executor.Submit(Plan(3));
        executor.Await().status().IgnoreError();
      },
      ::testing::ExitedWithCode(1), "two tokens came");
  SimExecutorOptions crashes = Options();
  crashes.faults.crash_on_token = kPrompt[1];
  EXPECT_DEATH(
      {
        SimExecutor executor(crashes);
        RunSteps(executor, 1);
      },
      "");
}

}  // namespace
}  // namespace berth::runtime
