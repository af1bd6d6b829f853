// How long steps are thought to take, and what prompts get beside decode rows.

#include "worker/engine/step_cost.h"

#include <gtest/gtest.h>

#include "tests/worker/engine/scheduler_driver.h"
#include "worker/engine/step_time.h"

namespace berth::engine {
namespace {

using Driver = SchedulerDriver;

constexpr StepCost kCost = {.fixed = 1, .weights = 9, .token = 0.1, .kv_token = 0.001, .pair = 0.0001};

StepWork Work(int rows, int position, int prompt = 0, int prompt_position = 0) {
  StepWork work;
  for (int i = 0; i < rows; ++i) work.Add(position, 1);
  if (prompt > 0) work.Add(prompt_position, prompt);
  return work;
}

TEST(StepCostTest, ProductsTakeTheLongerOfReadingAndMultiplying) {
  EXPECT_DOUBLE_EQ(kCost.Seconds(Work(10, 99)), 1 + 9 + 10 * 100 * 0.001);
  EXPECT_DOUBLE_EQ(kCost.Seconds(Work(100, 99)), 1 + 10 + 100 * 100 * 0.001);
  EXPECT_DOUBLE_EQ(kCost.Seconds(Work(0, 0, 100)), 1 + 10 + 0.0001 * 100 * 101 / 2);
  EXPECT_DOUBLE_EQ(kCost.Seconds(Work(0, 0, 2, 1000)), 1 + 9 + 0.0001 * (1001 + 1002));
}

TEST(StepCostTest, TheTokensThatFitFillTheTime) {
  for (const int rows : {1, 50, 200}) {
    for (const int position : {0, 3000}) {
      const StepWork decodes = Work(rows, 500);
      const double seconds = 2 * kCost.Seconds(decodes);
      const int tokens = kCost.TokensWithin(seconds, decodes, position);
      EXPECT_LE(kCost.Seconds(Work(rows, 500, tokens, position)), seconds) << rows << ", " << position;
      EXPECT_GT(kCost.Seconds(Work(rows, 500, tokens + 1, position)), seconds) << rows << ", " << position;
    }
  }
  EXPECT_EQ(kCost.TokensWithin(5, Work(1, 0), 0), 0) << "reading the weights alone takes longer";
}

TEST(StepCostTest, ThePaceFollowsTheStepsOfItsKind) {
  StepPace pace(kCost);
  EXPECT_EQ(pace.Expect(Work(10, 99)), absl::ZeroDuration()) << "nothing was measured";
  pace.Record(Work(10, 99), absl::Seconds(22), /*exact=*/true);
  EXPECT_EQ(pace.Expect(Work(10, 99)), absl::Seconds(22));
  EXPECT_NEAR(absl::ToDoubleSeconds(pace.Expect(Work(100, 99))), 42, 1e-6);
  EXPECT_EQ(pace.Expect(Work(10, 99, 50)), absl::ZeroDuration()) << "no step with a prompt was measured";
  pace.Record(Work(10, 99), absl::Seconds(40), /*exact=*/false);
  EXPECT_LT(pace.Expect(Work(10, 99)), absl::Seconds(22)) << "it took some time less than 40 seconds";
  StepPace unknown({});
  unknown.Record(Work(10, 99), absl::Seconds(22), /*exact=*/true);
  EXPECT_EQ(unknown.Expect(Work(10, 99)), absl::ZeroDuration());
}

TEST(StepCostTest, OneSlowStepHardlyChangesThePaceAndALastingChangeDoes) {
  const StepWork work = Work(10, 99);  // 11 seconds by its cost
  StepPace pace(kCost);
  pace.Record(work, absl::Hours(1), /*exact=*/true);
  EXPECT_LE(pace.Expect(work), absl::Seconds(22)) << "of the first step the cost says more";
  for (int i = 0; i < 20; ++i) pace.Record(work, absl::Seconds(10), /*exact=*/true);
  pace.Record(work, absl::Hours(1), /*exact=*/true);
  EXPECT_LE(pace.Expect(work), absl::Seconds(13));
  for (int i = 0; i < 10; ++i) pace.Record(work, absl::Seconds(20), /*exact=*/true);
  EXPECT_GE(pace.Expect(work), absl::Seconds(18));
  for (int i = 0; i < 20; ++i) pace.Record(work, absl::Seconds(200), /*exact=*/true);
  EXPECT_GE(pace.Expect(work), absl::Seconds(180));
}

// Steps with sequence 1 in slot 0, which decodes, and further ones with prompts. Decode rows alone take 16 seconds.
class TimeShareTest : public ::testing::Test {
 protected:
  static SchedulerOptions Options(double pair) {
    return {.slots = 9,
            .kv_blocks = 400,
            .step_tokens = 4096,
            .prefix_cache = false,
            .cost = {.weights = 16, .token = 0.125, .pair = pair}};
  }
  static StepPlan StepWith(Driver& driver, int prompts, int length) {
    driver.Add(Driver::Spec(1, 10, 500));
    driver.Step();
    for (int i = 0; i < prompts; ++i) driver.Add(Driver::Spec(2 + i, length, 5, 1 + i));
    return driver.Submit();
  }
  static int PromptTokens(const StepPlan& plan) {
    int tokens = 0;
    for (int slot = 1; slot < 9; ++slot) tokens += Driver::RowTokens(plan, slot);
    return tokens;
  }
};

TEST_F(TimeShareTest, WithDecodeRowsAStepTakesNoMoreThanTwiceTheirTime) {
  Driver driver(Options(0));
  const StepPlan plan = StepWith(driver, 1, 4000);
  EXPECT_EQ(Driver::RowTokens(plan, 0), 1);
  EXPECT_EQ(PromptTokens(plan), 255) << "256 tokens take 32 seconds";
}

TEST_F(TimeShareTest, ManyPromptsGetMoreTime) {
  Driver driver(Options(0));
  EXPECT_EQ(PromptTokens(StepWith(driver, 6, 1000)), 703) << "4.5 shares beside that of the decode rows";
}

TEST_F(TimeShareTest, APromptGetsFewerTokensTheFurtherItIs) {
  Driver driver(Options(1e-4));
  StepPlan plan = StepWith(driver, 1, 4000);
  int before = 255;
  for (int i = 0; i < 12; ++i) {
    EXPECT_LT(PromptTokens(plan), before);
    before = PromptTokens(plan);
    driver.Commit();
    plan = driver.Submit();
  }
  EXPECT_GE(before, kBlockTokens) << "but a block at least";
}

TEST_F(TimeShareTest, PromptsThatAreCutFillWholeTiles) {
  for (const auto& [tile, prompt, tokens] :
       {std::tuple(200, 4000, 199), {100, 4000, 299}, {1000, 4000, 999}, {200, 240, 240}}) {
    SchedulerOptions options = Options(0);
    options.cost.tile = tile;
    Driver driver(options);
    EXPECT_EQ(PromptTokens(StepWith(driver, 1, prompt)), tokens) << "beside one row, of tiles of " << tile;
  }
}

TEST_F(TimeShareTest, WithoutDecodeRowsPromptsGetTheWholeStep) {
  Driver driver(Options(0));
  driver.Add(Driver::Spec(1, 3000, 5));
  EXPECT_EQ(Driver::RowTokens(driver.Submit(), 0), 3000);
}

// Steps of four decode rows, which fill a tile and take 4 seconds, in slots 0 to 3, and of what comes then.
class JointPromptsTest : public ::testing::Test {
 protected:
  static SchedulerOptions Options() {
    return {
        .slots = 8, .kv_blocks = 400, .step_tokens = 64, .prefix_cache = false, .cost = {.weights = 4, .token = 1, .tile = 4}};
  }
  static void StartRows(Driver& driver, int rows) {
    for (int i = 0; i < rows; ++i) driver.Add(Driver::Spec(1 + i, 5, 500, i));
    for (int i = 0; i < 5; ++i) driver.Step();
  }
  // How many steps end before the prompt of what is added, which gets `slot`, has been computed, and 10 at most.
  static int StepsWithout(Driver& driver, SequenceSpec spec, int slot) {
    driver.Add(std::move(spec));
    for (int steps = 0; steps < 10; ++steps) {
      const int tokens = Driver::RowTokens(driver.Submit(), slot);
      driver.Commit();
      if (tokens > 0) return steps;
    }
    return 10;
  }
};

TEST_F(JointPromptsTest, FewTokensWaitThreeStepsBesideFullTiles) {
  Driver driver(Options());
  StartRows(driver, 4);
  EXPECT_EQ(StepsWithout(driver, Driver::Spec(9, 11, 5), 4), 3);
  EXPECT_EQ(StepsWithout(driver, Driver::Spec(10, 12, 5), 5), 0) << "three tiles";
}

TEST_F(JointPromptsTest, TheyGoTogetherAsSoonAsTheyAreEnough) {
  Driver driver(Options());
  StartRows(driver, 4);
  driver.Add(Driver::Spec(9, 5, 5));
  driver.Step();
  driver.Add(Driver::Spec(10, 7, 5));
  const StepPlan plan = driver.Submit();
  EXPECT_EQ(Driver::RowTokens(plan, 4), 5);
  EXPECT_EQ(Driver::RowTokens(plan, 5), 7);
}

TEST_F(JointPromptsTest, NotBesideFewerRowsOrLongStepsNorWithPriority) {
  const auto steps = [](const SchedulerOptions& options, int rows, int priority) {
    Driver driver(options);
    StartRows(driver, rows);
    SequenceSpec spec = Driver::Spec(9, 5, 5);
    spec.priority = priority;
    return StepsWithout(driver, std::move(spec), rows);
  };
  SchedulerOptions options = Options();
  EXPECT_EQ(steps(options, 4, 0), 3);
  EXPECT_EQ(steps(options, 3, 0), 0);
  EXPECT_EQ(steps(options, 4, 1), 0);
  options.cost.kv_token = 1;
  EXPECT_EQ(steps(options, 4, 0), 0) << "decode rows take 4 seconds and some 40 for what they read, a tile 4";
}

TEST_F(JointPromptsTest, WhatATileHasRoomForCostsNothing) {
  Driver driver(Options());
  StartRows(driver, 5);
  EXPECT_EQ(StepsWithout(driver, Driver::Spec(9, 3, 500), 5), 0) << "beside five rows";
  EXPECT_EQ(StepsWithout(driver, Driver::Spec(10, 3, 5), 6), 3) << "beside six";
}

TEST_F(JointPromptsTest, TheRestOfALongPromptHasWaitedEnough) {
  Driver driver(Options());
  StartRows(driver, 4);
  driver.Add(Driver::Spec(9, 250, 5));
  int steps = 0;
  for (int tokens = 0; tokens < 250 && steps < 10; ++steps) {
    tokens += Driver::RowTokens(driver.Submit(), 4);
    driver.Commit();
  }
  EXPECT_EQ(steps, 5) << "of 60 tokens each, the last of 10";
}

}  // namespace
}  // namespace berth::engine
