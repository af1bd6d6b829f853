// Who gets which share of a step, and how sequences end.

#include "worker/engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/worker/engine/scheduler_driver.h"

namespace berth::engine {
namespace {

using ::testing::HasSubstr;
using Driver = SchedulerDriver;

std::vector<int32_t> Alone(const SequenceSpec& spec) { return runtime::SimOutput(Driver::kVocabulary, spec); }

// Token n of the output must be n modulo 7.
class CountingConstraint : public TokenConstraint {
 public:
  int mask_words() const override { return 70; }
  void FillMask(absl::Span<uint32_t> mask) override {
    for (size_t id = 0; id < mask.size() * 32; ++id) mask[id / 32] |= static_cast<uint32_t>(id % 7 == count_ % 7) << id % 32;
  }
  void Accept(int32_t) override { ++count_; }

 private:
  size_t count_ = 0;
};

TEST(SchedulerTest, AConstraintSeesEveryTokenBeforeTheNextMask) {
  Driver driver({.slots = 4, .kv_blocks = 3, .step_tokens = 64});  // not enough for both: one is preempted
  driver.Add(Driver::Spec(1, 10, 100));
  SequenceSpec constrained = Driver::Spec(2, 20, 60, 1);
  constrained.constraint = std::make_shared<CountingConstraint>();
  driver.Add(constrained);
  while (!driver.scheduler().idle()) {
    const bool first = !driver.Submit().empty(), second = !driver.Submit().empty();
    ASSERT_TRUE(first);
    driver.Commit();
    if (second) driver.Commit();
    driver.TakeUpdates();
  }
  EXPECT_GT(driver.scheduler().stats().preemptions, 0);
  EXPECT_EQ(driver.output(1).tokens, Alone(Driver::Spec(1, 10, 100))) << "as without a neighbour";
  ASSERT_EQ(driver.output(2).tokens.size(), 60);
  for (int n = 0; n < 60; ++n) EXPECT_EQ(driver.output(2).tokens[n] % 7, n % 7) << n;
}

TEST(SchedulerTest, OneStepMixesDecodeRowsAndPromptChunks) {
  Driver driver({.slots = 4, .kv_blocks = 32, .step_tokens = 40});
  driver.Add(Driver::Spec(1, 10, 100));
  driver.Step();
  driver.Add(Driver::Spec(2, 100, 100, 1));
  const StepPlan plan = driver.Submit();
  EXPECT_EQ(Driver::RowTokens(plan, 0), 1);
  EXPECT_EQ(Driver::RowTokens(plan, 1), 39);
  driver.Commit();
  EXPECT_EQ(driver.output(1).tokens.size(), 2);
  EXPECT_TRUE(driver.output(2).tokens.empty()) << "its prompt is not computed yet";
  EXPECT_TRUE(driver.output(2).started);
  driver.Step();
  driver.Step();
  EXPECT_EQ(driver.output(1).tokens.size(), 4) << "a token in every step";
  EXPECT_EQ(driver.output(2).tokens.size(), 1);
}

TEST(SchedulerTest, ALongPromptDoesNotHoldUpAShortOne) {
  Driver driver({.slots = 4, .kv_blocks = 200, .step_tokens = 64});
  driver.Add(Driver::Spec(1, 10000, 5));
  driver.Step();
  driver.Add(Driver::Spec(2, 30, 5, 1));
  const StepPlan plan = driver.Submit();
  EXPECT_EQ(Driver::RowTokens(plan, 1), 30);
  EXPECT_EQ(Driver::RowTokens(plan, 0), 34) << "and the budget is spent";
  driver.Commit();
  EXPECT_EQ(driver.output(2).tokens.size(), 1);
}

TEST(SchedulerTest, AStreamOfShortPromptsDoesNotStarveALongOne) {
  Driver driver({.slots = 8, .kv_blocks = 200, .step_tokens = 64});
  driver.Add(Driver::Spec(1, 1000, 5));
  SequenceId id = 2;
  for (int step = 0; step < 40; ++step) {
    for (int i = 0; i < 2; ++i, ++id) driver.Add(Driver::Spec(id, 40, 1, static_cast<int>(id)));
    driver.Step();
  }
  EXPECT_GT(driver.output(1).tokens.size(), 0) << "half of the prompts' share is its own";
}

TEST(SchedulerTest, WithASmallBudgetPromptsAndDecodeRowsBothAdvance) {
  Driver driver({.slots = 10, .kv_blocks = 64, .step_tokens = 8});
  for (SequenceId id = 1; id <= 9; ++id) driver.Add(Driver::Spec(id, 4, 1000, static_cast<int>(id)));
  for (int i = 0; i < 40; ++i) driver.Step();
  std::vector<size_t> before;
  for (SequenceId id = 1; id <= 9; ++id) before.push_back(driver.output(id).tokens.size());
  driver.Add(Driver::Spec(10, 60, 1000, 10));
  for (int i = 0; i < 30; ++i) driver.Step();
  EXPECT_GT(driver.output(10).tokens.size(), 0) << "2 of 8 tokens are sure for prompts";
  for (SequenceId id = 1; id <= 9; ++id) {
    EXPECT_GE(driver.output(id).tokens.size(), before[id - 1] + 18) << "decode rows take turns";
  }
}

TEST(SchedulerTest, SlotsGoToTheHighestPriorityAndThenFirstComeFirstServed) {
  Driver driver({.slots = 1, .kv_blocks = 8, .step_tokens = 64});
  for (SequenceId id = 1; id <= 4; ++id) {
    SequenceSpec spec = Driver::Spec(id, 10, 1);
    spec.priority = id == 3 ? 5 : 0;
    driver.Add(std::move(spec));
  }
  for (const SequenceId next : {3, 1, 2, 4}) {
    driver.Step();
    EXPECT_EQ(driver.output(next).finish, FinishReason::kLength) << next;
  }
}

TEST(SchedulerTest, WhatDoesNotFitWaitsWholeAndIsNotOvertaken) {
  Driver driver({.slots = 4, .kv_blocks = 6, .step_tokens = 512});
  driver.Add(Driver::Spec(1, 200, 20));  // 4 blocks
  driver.Step();
  driver.Add(Driver::Spec(2, 300, 1, 1));  // 5 blocks
  driver.Add(Driver::Spec(3, 10, 1, 2));   // 1 block
  driver.Step();
  EXPECT_EQ(driver.scheduler().stats().waiting, 2);
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_used, 4);
  EXPECT_FALSE(driver.output(3).started);
  driver.Drain();
  for (SequenceId id = 1; id <= 3; ++id) EXPECT_EQ(driver.output(id).finish, FinishReason::kLength);
}

TEST(SchedulerTest, AdmissionLeavesARunningSequenceRoomToGrow) {
  Driver driver({.slots = 2, .kv_blocks = 4, .step_tokens = 512});
  driver.Add(Driver::Spec(1, 60, 30));
  driver.Step();
  driver.Add(Driver::Spec(2, 190, 10, 1));  // the three blocks left, but 1 will soon want one
  driver.Drain();
  EXPECT_EQ(driver.scheduler().stats().preemptions, 0);
  EXPECT_EQ(driver.output(2).finish, FinishReason::kLength);
}

TEST(SchedulerTest, WhenBlocksRunOutTheNewestOfTheLowestPriorityIsRecomputedLater) {
  Driver driver({.slots = 3, .kv_blocks = 8, .step_tokens = 512});
  // 1 needs its third block when 2 and 3 have taken the last ones.
  SequenceSpec specs[] = {Driver::Spec(1, 20, 250), Driver::Spec(2, 60, 130, 1), Driver::Spec(3, 60, 130, 2)};
  specs[1].priority = -1;  // older than 3, and of less worth
  for (const SequenceSpec& spec : specs) driver.Add(spec);
  for (int i = 0; driver.scheduler().stats().preemptions == 0; ++i) {
    ASSERT_LT(i, 300);
    driver.Step();
  }
  const size_t kept = driver.output(2).tokens.size();
  EXPECT_EQ(driver.scheduler().stats().waiting, 1);
  driver.Step();
  EXPECT_EQ(driver.output(2).tokens.size(), kept) << "2 is the one that waits";
  driver.Drain();
  for (const SequenceSpec& spec : specs) EXPECT_EQ(driver.output(spec.id).tokens, Alone(spec)) << spec.id;
}

TEST(SchedulerTest, CancelEndsAtOnceAndFreesTheKvWithTheStepInFlight) {
  Driver driver({.slots = 1, .kv_blocks = 4, .step_tokens = 64});
  driver.Add(Driver::Spec(1, 50, 100));
  driver.Step();
  driver.Submit();
  driver.scheduler().Cancel(1);
  driver.TakeUpdates();
  EXPECT_EQ(driver.output(1).finish, FinishReason::kCancelled);
  EXPECT_EQ(driver.output(1).tokens.size(), 1);
  driver.Add(Driver::Spec(2, 250, 5, 1));  // needs every block
  EXPECT_TRUE(driver.Submit().empty()) << "the step in flight may still write to them";
  driver.Commit();
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_used, 0);
  EXPECT_TRUE(driver.Step());
  driver.Drain();
  EXPECT_EQ(driver.output(2).tokens, Alone(Driver::Spec(2, 250, 5, 1)));
  EXPECT_EQ(driver.output(1).tokens.size(), 1) << "what the step in flight drew is dropped";
}

TEST(SchedulerTest, ResultsOfASlotsEarlierSequenceAreDropped) {
  Driver driver({.slots = 1, .kv_blocks = 8, .step_tokens = 64});
  driver.Add(Driver::Spec(1, 10, 100));
  driver.Step();
  driver.Submit();
  driver.scheduler().Cancel(1);
  driver.Add(Driver::Spec(2, 10, 3, 1));
  driver.Submit();  // the same slot, while the step of 1 is in flight
  driver.Commit();
  EXPECT_TRUE(driver.output(2).tokens.empty());
  driver.Commit();
  driver.Drain();
  EXPECT_EQ(driver.output(2).tokens, Alone(Driver::Spec(2, 10, 3, 1)));
}

TEST(SchedulerTest, FinishLeavesExactlyTheTokensAskedFor) {
  for (const bool planned_ahead : {false, true}) {
    Driver driver({.slots = 1, .kv_blocks = 8, .step_tokens = 64});
    driver.Add(Driver::Spec(1, 10, 100));
    for (int i = 0; i < 6; ++i) driver.Step();
    if (planned_ahead) driver.Submit();
    driver.scheduler().Finish(1, 4);
    driver.TakeUpdates();
    EXPECT_EQ(driver.output(1).finish, FinishReason::kFinished);
    EXPECT_EQ(driver.output(1).tokens.size(), 4);
    if (planned_ahead) driver.Commit();
    EXPECT_TRUE(driver.scheduler().idle());
  }
}

TEST(SchedulerTest, FinishOfTokensNotYetDrawnWaitsForThem) {
  Driver driver({.slots = 1, .kv_blocks = 8, .step_tokens = 64});
  driver.Add(Driver::Spec(1, 10, 100));
  driver.scheduler().Finish(1, 4);
  driver.scheduler().Finish(1, 200);  // no more than it would get anyway
  driver.Drain();
  EXPECT_EQ(driver.output(1).finish, FinishReason::kFinished);
  EXPECT_EQ(driver.output(1).tokens.size(), 4);
}

TEST(SchedulerTest, DeadlinesEndWaitingAndRunningSequences) {
  Driver driver({.slots = 1, .kv_blocks = 8, .step_tokens = 64});
  for (SequenceId id = 1; id <= 3; ++id) {
    SequenceSpec spec = Driver::Spec(id, 10, 100);
    if (id < 3) spec.deadline = absl::Seconds(static_cast<int64_t>(id));
    driver.Add(std::move(spec));
  }
  EXPECT_EQ(driver.scheduler().NextDeadline(), absl::Seconds(1));
  driver.Submit(absl::Milliseconds(999));
  driver.Commit();
  EXPECT_EQ(driver.output(1).finish, FinishReason::kNone);
  driver.Submit(absl::Seconds(2));
  driver.Commit();
  EXPECT_EQ(driver.output(1).finish, FinishReason::kDeadline);
  EXPECT_EQ(driver.output(2).finish, FinishReason::kDeadline);
  EXPECT_EQ(driver.output(3).tokens.size(), 1) << "the slot went on to 3";
  EXPECT_EQ(driver.scheduler().NextDeadline(), absl::InfiniteDuration());
}

TEST(SchedulerTest, AStopTokenEndsASequenceAndCounts) {
  Driver driver({.slots = 1, .kv_blocks = 8, .step_tokens = 64}, {.begin = 1000, .end = 2000, .stop_probability = 1});
  SequenceSpec spec = Driver::Spec(1, 10, 100);
  spec.stop_tokens = {5};
  spec.min_tokens = 3;
  driver.Add(spec);
  driver.Drain();
  EXPECT_EQ(driver.output(1).finish, FinishReason::kStopToken);
  ASSERT_EQ(driver.output(1).tokens.size(), 4);
  EXPECT_EQ(driver.output(1).tokens.back(), 5);
}

TEST(SchedulerTest, AResumedSequenceGoesOnWhereItWas) {
  Driver driver({.slots = 3, .kv_blocks = 16, .step_tokens = 64});
  const SequenceSpec whole = Driver::Spec(1, 10, 100);
  const std::vector<int32_t> alone = Alone(whole);
  SequenceSpec resumed = whole;
  resumed.tokens.insert(resumed.tokens.end(), alone.begin(), alone.begin() + 70);
  driver.Add(resumed);
  SequenceSpec complete = whole;
  complete.id = 2;
  complete.tokens.insert(complete.tokens.end(), alone.begin(), alone.end());
  driver.Add(complete);
  driver.TakeUpdates();
  EXPECT_EQ(driver.output(2).finish, FinishReason::kLength) << "nothing was left to draw";
  for (int i = 0; i < 32; ++i) driver.Step();
  EXPECT_EQ(driver.output(1).finish, FinishReason::kLength) << "the given output counts";
}

TEST(SchedulerTest, ANanFailsItsSequenceOnly) {
  Driver driver({.slots = 2, .kv_blocks = 8, .step_tokens = 64});
  SequenceSpec bad = Driver::Spec(1, 10, 100);
  bad.tokens[4] = Driver::kNanToken;
  driver.Add(bad);
  driver.Add(Driver::Spec(2, 10, 5, 1));
  driver.Drain();
  EXPECT_EQ(driver.output(1).finish, FinishReason::kError);
  EXPECT_THAT(driver.output(1).error, HasSubstr("not a number"));
  EXPECT_EQ(driver.output(2).tokens, Alone(Driver::Spec(2, 10, 5, 1)));
}

TEST(SchedulerTest, EndAllEndsWaitingAndRunningSequencesOnce) {
  Driver driver({.slots = 1, .kv_blocks = 8, .step_tokens = 64});
  driver.Add(Driver::Spec(1, 10, 100));
  driver.Add(Driver::Spec(2, 10, 100));
  driver.Step();
  driver.scheduler().EndAll(FinishReason::kError, "UNAVAILABLE: gone");
  driver.TakeUpdates();
  for (const SequenceId id : {1, 2}) {
    EXPECT_EQ(driver.output(id).finish, FinishReason::kError);
    EXPECT_EQ(driver.output(id).error, "UNAVAILABLE: gone");
  }
  EXPECT_TRUE(driver.scheduler().idle());
}

TEST(SchedulerTest, StatsCountWhatWasDone) {
  Driver driver({.slots = 1, .kv_blocks = 8, .step_tokens = 64});
  driver.Add(Driver::Spec(1, 100, 3));
  driver.Add(Driver::Spec(2, 50, 2, 1));
  driver.Step();
  EngineStats stats = driver.scheduler().stats();
  EXPECT_EQ(stats.running, 1);
  EXPECT_EQ(stats.waiting, 1);
  EXPECT_EQ(stats.waiting_prompt_tokens, 36 + 50);
  EXPECT_EQ(stats.kv_blocks_used, 2);
  driver.Drain();
  stats = driver.scheduler().stats();
  EXPECT_EQ(stats.steps, 4 + 2);
  EXPECT_EQ(stats.prompt_tokens, 150);
  EXPECT_EQ(stats.generated_tokens, 5);
  EXPECT_EQ(stats.kv_blocks_cached, 1);
  EXPECT_EQ(stats.kv_blocks_total, 8);
}

// A decoding sequence takes the blocks of a prompt that is half scored, wherever in a block that stands.
TEST(SchedulerScoreTest, APreemptedPromptTellsEveryScoreOnce) {
  SequenceSpec scored = SchedulerDriver::Spec(2, 100, 0, 1);
  scored.score_prompt = true;
  scored.sampling.logprobs = 0;
  SchedulerDriver alone({.slots = 2, .kv_blocks = 4, .step_tokens = 128});
  alone.Add(scored);
  alone.Drain();
  const std::vector<float> want = alone.output(2).prompt_logprobs;
  ASSERT_EQ(want.size(), 99u);
  for (int length = 57; length <= 60; ++length) {
    SCOPED_TRACE(length);
    SchedulerDriver driver({.slots = 2, .kv_blocks = 4, .step_tokens = 2});
    driver.Add(SchedulerDriver::Spec(1, length, 130 - length));
    while (driver.output(1).tokens.empty()) driver.Step();
    driver.Add(scored);
    driver.Drain();
    EXPECT_EQ(driver.scheduler().stats().preemptions, 1u);
    EXPECT_EQ(driver.output(2).prompt_logprobs, want);
    EXPECT_EQ(driver.output(2).finish, FinishReason::kLength);
  }
}

TEST(SchedulerScoreTest, APromptThatIsNotANumberFails) {
  SchedulerDriver driver({.slots = 2, .kv_blocks = 4, .step_tokens = 64});
  SequenceSpec scored = SchedulerDriver::Spec(1, 100, 0);
  scored.tokens[90] = SchedulerDriver::kNanToken;
  scored.score_prompt = true;
  driver.Add(scored);
  driver.Drain();
  EXPECT_EQ(driver.output(1).finish, FinishReason::kError);
  EXPECT_EQ(driver.output(1).error, "INTERNAL: the model's output was not a number");
}

}  // namespace
}  // namespace berth::engine
