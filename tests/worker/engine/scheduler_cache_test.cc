// What sequences share through the prefix cache, and what they must not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/worker/engine/scheduler_driver.h"
#include "worker/engine/scheduler.h"

namespace berth::engine {
namespace {

using Driver = SchedulerDriver;

constexpr SchedulerOptions kOptions = {.slots = 4, .kv_blocks = 64, .step_tokens = 256};

// The tokens of `text` up to `length`, ended by the token `last`.
SequenceSpec EndingIn(SequenceId id, int length, int32_t last) {
  SequenceSpec spec = Driver::Spec(id, length, 2);
  spec.tokens.back() = last;
  return spec;
}

TEST(SchedulerCacheTest, AHitCoversFullBlocksButNeverTheWholePrompt) {
  const struct { int length, cached; } cases[] = {{64, 0}, {65, 64}, {128, 64}, {129, 128}, {200, 192}};
  for (const auto& c : cases) {
    Driver driver(kOptions);
    driver.Add(Driver::Spec(1, c.length, 2));
    driver.Drain();
    EXPECT_EQ(driver.output(1).cached_tokens, 0);
    driver.Add(Driver::Spec(2, c.length, 2));
    driver.Drain();
    EXPECT_EQ(driver.output(2).cached_tokens, c.cached) << "prompt of " << c.length;
    EXPECT_EQ(driver.output(2).tokens, driver.output(1).tokens);
    EXPECT_EQ(driver.scheduler().stats().cached_prompt_tokens, c.cached);
  }
}

TEST(SchedulerCacheTest, TheNextTurnFindsTheOutputOfTheTurnBefore) {
  Driver driver(kOptions);
  SequenceSpec turn = Driver::Spec(1, 50, 100);
  driver.Add(turn);
  driver.Drain();
  const std::vector<int32_t>& answer = driver.output(1).tokens;
  SequenceSpec next = turn;
  next.id = 2;
  next.tokens.insert(next.tokens.end(), answer.begin(), answer.end());
  next.tokens.insert(next.tokens.end(), {11, 12, 13});
  next.prompt_length = static_cast<int>(next.tokens.size());
  driver.Add(next);
  driver.Drain();
  EXPECT_EQ(driver.output(2).cached_tokens, 128);
  EXPECT_EQ(driver.output(2).tokens, runtime::SimOutput(Driver::kVocabulary, next));
}

TEST(SchedulerCacheTest, TheLastTokenDrawnHasNoKvYet) {
  Driver driver(kOptions);
  driver.Add(Driver::Spec(1, 60, 4));  // 64 tokens, the KV of 63
  driver.Drain();
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_cached, 0);
}

TEST(SchedulerCacheTest, BlocksPastACutAreNotPublished) {
  Driver driver(kOptions);
  driver.Add(Driver::Spec(1, 60, 200));
  for (int i = 0; i < 150; ++i) driver.Step();
  driver.scheduler().Finish(1, 70);  // 130 tokens
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_cached, 2);
}

TEST(SchedulerCacheTest, ACancelledSequenceLeavesItsSoundBlocks) {
  Driver driver(kOptions);
  driver.Add(Driver::Spec(1, 100, 200));
  for (int i = 0; i < 50; ++i) driver.Step();
  driver.scheduler().Cancel(1);
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_cached, 2);
}

TEST(SchedulerCacheTest, APromptThatDrewNoTokenIsNotPublished) {
  Driver driver({.slots = 4, .kv_blocks = 64, .step_tokens = 128});
  driver.Add(Driver::Spec(1, 1000, 5));
  driver.Step();
  driver.Step();
  driver.scheduler().Cancel(1);
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_cached, 0);
}

TEST(SchedulerCacheTest, OtherSaltsShareNothing) {
  Driver driver(kOptions);
  driver.Add(Driver::Spec(1, 200, 2));
  driver.Drain();
  SequenceSpec other = Driver::Spec(2, 200, 2);
  other.cache_salt = 1;
  driver.Add(other);
  driver.Drain();
  EXPECT_EQ(driver.output(2).cached_tokens, 0);
}

TEST(SchedulerCacheTest, ChoicesStartWhenThePromptIsCachedAndShareIt) {
  Driver driver({.slots = 4, .kv_blocks = 64, .step_tokens = 128});
  SequenceSpec spec = Driver::Spec(1, 300, 5);
  driver.Add(spec);
  std::vector<SequenceSpec> choices;
  for (int choice = 1; choice <= 2; ++choice) {
    spec.id = 1 + choice;
    spec.sampling.choice = choice;
    spec.share_prompt_of = 1;
    driver.Add(spec);
    choices.push_back(spec);
  }
  driver.Add(Driver::Spec(9, 10, 1, 1));  // waits for nobody
  for (int i = 0; driver.output(1).tokens.empty(); ++i) {
    ASSERT_LT(i, 10);
    EXPECT_FALSE(driver.output(2).started);
    driver.Step();
  }
  EXPECT_EQ(driver.output(9).finish, FinishReason::kLength);
  driver.Step();
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_used, 4 + 3) << "four shared full blocks and a partial one each";
  driver.Drain();
  for (const SequenceSpec& choice : choices) {
    EXPECT_EQ(driver.output(choice.id).cached_tokens, 256);
    EXPECT_EQ(driver.output(choice.id).tokens, runtime::SimOutput(Driver::kVocabulary, choice));
    EXPECT_NE(driver.output(choice.id).tokens, driver.output(1).tokens);
  }
}

TEST(SchedulerCacheTest, ChoicesStartAloneWhenTheFirstEndsEarly) {
  Driver driver({.slots = 4, .kv_blocks = 64, .step_tokens = 128});
  driver.Add(Driver::Spec(1, 300, 5));
  SequenceSpec choice = Driver::Spec(2, 300, 5);
  choice.share_prompt_of = 1;
  driver.Add(choice);
  driver.Step();
  driver.scheduler().Cancel(1);
  driver.Drain();
  EXPECT_EQ(driver.output(2).finish, FinishReason::kLength);
}

TEST(SchedulerCacheTest, TwoThatNameEachOtherBothRun) {
  Driver driver(kOptions);
  for (const SequenceId id : {1, 2}) {
    SequenceSpec spec = Driver::Spec(id, 100, 2);
    spec.share_prompt_of = 3 - id;
    driver.Add(spec);
  }
  driver.Drain();
  EXPECT_EQ(driver.output(2).finish, FinishReason::kLength);
}

TEST(SchedulerCacheTest, AFailedSequenceLeavesNothingInTheCache) {
  Driver driver(kOptions);
  // The prompt is sound; what it draws is not.
  runtime::SimVocabulary only_nan = {.begin = Driver::kNanToken, .end = Driver::kNanToken + 1};
  Driver poisoned(kOptions, only_nan);
  poisoned.Add(Driver::Spec(1, 200, 5));
  poisoned.Step();
  EXPECT_EQ(poisoned.output(1).tokens.size(), 1);
  poisoned.Drain();
  EXPECT_EQ(poisoned.output(1).finish, FinishReason::kError);
  EXPECT_EQ(poisoned.scheduler().stats().kv_blocks_cached, 0);
}

TEST(SchedulerCacheTest, TheCacheGivesUpTheEndOfTheLongestUnusedFirst) {
  Driver driver({.slots = 2, .kv_blocks = 7, .step_tokens = 512});
  driver.Add(EndingIn(1, 129, 1));  // two full blocks
  driver.Drain();
  driver.Add(Driver::Spec(2, 129, 1, 1));
  driver.Drain();
  driver.Add(Driver::Spec(3, 129, 1, 2));
  driver.Drain();
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_cached, 6);
  driver.Add(Driver::Spec(4, 70, 1, 3));  // takes the free block and one more
  driver.Drain();
  driver.Add(EndingIn(5, 129, 2));
  driver.Drain();
  EXPECT_EQ(driver.output(5).cached_tokens, 64) << "the second block of 1 went";
}

TEST(SchedulerCacheTest, WithoutTheCacheNothingIsShared) {
  Driver driver({.slots = 4, .kv_blocks = 64, .step_tokens = 256, .prefix_cache = false});
  driver.Add(Driver::Spec(1, 200, 2));
  SequenceSpec choice = Driver::Spec(2, 200, 2);
  choice.share_prompt_of = 1;
  driver.Add(choice);
  driver.Step();
  EXPECT_TRUE(driver.output(2).started) << "there is nothing to wait for";
  driver.Drain();
  EXPECT_EQ(driver.output(2).cached_tokens, 0);
  EXPECT_EQ(driver.scheduler().stats().kv_blocks_cached, 0);
}

}  // namespace
}  // namespace berth::engine
