#include "worker/engine/step_ring.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "worker/engine/step_time.h"

namespace berth::engine {
namespace {

TEST(StepRingTest, ThousandsOfStepsArriveInOrderThroughASmallRing) {
  StepRing ring(4);
  std::thread writer([&ring] {
    for (uint64_t step = 1; step <= 5000; ++step) EXPECT_TRUE(ring.Push({.step = step}));
    ring.Close();
  });
  uint64_t next = 1;
  std::vector<StepOutput> outputs;
  while (ring.Pop(&outputs)) {
    EXPECT_LE(outputs.size(), 4);
    for (const StepOutput& output : outputs) EXPECT_EQ(output.step, next++);
  }
  EXPECT_EQ(next, 5001);
  writer.join();
}

TEST(StepRingTest, WhatWasPushedBeforeCloseIsStillRead) {
  StepRing ring(4);
  EXPECT_TRUE(ring.Push({.step = 1}));
  ring.Close();
  EXPECT_FALSE(ring.Push({.step = 2}));
  std::vector<StepOutput> outputs;
  ASSERT_TRUE(ring.Pop(&outputs));
  ASSERT_EQ(outputs.size(), 1);
  EXPECT_EQ(outputs[0].step, 1);
  EXPECT_FALSE(ring.Pop(&outputs));
  EXPECT_TRUE(outputs.empty());
}

TEST(StepRingTest, CloseFreesAWriterThatWaits) {
  StepRing ring(1);
  EXPECT_TRUE(ring.Push({.step = 1}));
  EXPECT_EQ(ring.full_waits(), 0);
  std::thread writer([&ring] { EXPECT_FALSE(ring.Push({.step = 2})); });
  while (ring.full_waits() == 0) std::this_thread::yield();
  ring.Close();
  writer.join();
}

TEST(StepTimeTest, PredictsFromTheNearestSmallerSizeMeasured) {
  StepTime time;
  EXPECT_EQ(time.Predict(100), absl::ZeroDuration());
  time.Record(8, absl::Milliseconds(10));
  EXPECT_EQ(time.Predict(9), absl::Milliseconds(10));
  EXPECT_EQ(time.Predict(64), absl::Milliseconds(80));
  EXPECT_EQ(time.Predict(4), absl::ZeroDuration());
  time.Record(64, absl::Milliseconds(50));
  EXPECT_EQ(time.Predict(64), absl::Milliseconds(50));
  for (int i = 0; i < 50; ++i) time.Record(64, absl::Milliseconds(100));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(time.Predict(64)), 100, 1);
}

TEST(StepTimeTest, AStepIsStalledAfterEightTimesItsTimeButNotBeforeTwoSeconds) {
  StepTime time;
  constexpr absl::Duration kModelled = absl::Seconds(3);
  EXPECT_EQ(time.Budget(1, absl::ZeroDuration()), absl::Seconds(2));
  EXPECT_EQ(time.Budget(1, kModelled), 8 * kModelled) << "of a model whose first prompt is long work";
  time.Record(1, absl::Milliseconds(100));
  EXPECT_EQ(time.Budget(1, kModelled), absl::Seconds(2));
  EXPECT_EQ(time.Budget(4, kModelled), absl::Milliseconds(3200));
}

}  // namespace
}  // namespace berth::engine
