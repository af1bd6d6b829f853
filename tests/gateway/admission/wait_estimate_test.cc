#include "gateway/admission/wait_estimate.h"

#include <gtest/gtest.h>

namespace berth::admission {
namespace {

TEST(WaitEstimateTest, NothingIsRefusedBeforeAnythingIsKnown) {
  const WaitEstimate estimate;
  EXPECT_EQ(estimate.Wait(0, 1000, 1), absl::ZeroDuration());
  EXPECT_EQ(estimate.Run(0, 0), absl::ZeroDuration());
}

TEST(WaitEstimateTest, PlacesBecomeFreeAsFastAsRequestsEnd) {
  WaitEstimate estimate;
  for (int i = 0; i < 10; ++i) estimate.Ended(0, absl::Seconds(2), 100);
  // Eight places of 2 s each: one every 250 ms.
  EXPECT_EQ(estimate.Wait(0, 0, 8), absl::Milliseconds(250));
  EXPECT_EQ(estimate.Wait(0, 39, 8), absl::Seconds(10));
}

TEST(WaitEstimateTest, AShortAnswerTakesItsShareOfTheMean) {
  WaitEstimate estimate;
  estimate.Ended(0, absl::Seconds(2), 100);
  EXPECT_EQ(estimate.Run(0, 0), absl::Seconds(2));
  EXPECT_EQ(estimate.Run(0, 25), absl::Milliseconds(500));
  EXPECT_EQ(estimate.Run(0, 100000), absl::Seconds(2)) << "most answers end before their limit";
}

TEST(WaitEstimateTest, AHigherPriorityTakesItsShareFirst) {
  WaitEstimate estimate;
  for (int i = 0; i < 2000; ++i) estimate.Ended(i % 4 == 0 ? 0 : 5, absl::Seconds(1), 10);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Wait(5, 7, 8)), 1, 1e-9);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Wait(0, 7, 8)), 4, 0.1);
  for (int i = 0; i < 1000; ++i) estimate.Ended(5, absl::Seconds(1), 10);
  EXPECT_GT(estimate.Wait(0, 7, 8), absl::Seconds(50)) << "nothing is left for it";
}

TEST(WaitEstimateTest, EachPriorityTakesItsOwnTime) {
  WaitEstimate estimate;
  for (int i = 0; i < 100; ++i) {
    estimate.Ended(1, absl::Seconds(1), 10);
    estimate.Ended(0, absl::Seconds(3), 10);
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Run(7, 0)), 1, 1e-9);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Run(0, 0)), 3, 1e-9);
}

TEST(WaitEstimateTest, RunTimesThatVaryAreEstimatedAboveTheirMean) {
  WaitEstimate steady, varied;
  for (int i = 0; i < 500; ++i) {
    steady.Ended(0, absl::Seconds(2), 10);
    varied.Ended(0, absl::Seconds(i % 2 == 0 ? 1.8 : 2.2), 10);
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(steady.Run(0, 0)), 2, 1e-6);
  EXPECT_GT(varied.Run(0, 0), absl::Seconds(2.3)) << "nearly all of them end within it";
}

TEST(WaitEstimateTest, PlacesThatComeInBurstsMakeAllWaitLonger) {
  WaitEstimate estimate;
  const absl::Duration now = absl::Seconds(1000);
  EXPECT_EQ(estimate.Excess(0, now), absl::ZeroDuration());
  // Eight places become free once a second: the first of them was expected after 1/8 s, the last after one.
  for (int i = 0; i < 800; ++i) estimate.Waited(0, absl::Seconds(1) * (i % 8 + 1) / 8, absl::Seconds(1), now);
  EXPECT_GE(estimate.Excess(0, now), absl::Seconds(7.0 / 8));
  EXPECT_LE(estimate.Excess(0, now), absl::Seconds(1.5));
  EXPECT_EQ(estimate.Excess(1, now), absl::ZeroDuration()) << "another priority's waits are its own";
  EXPECT_LT(estimate.Excess(0, now + absl::Minutes(1)), absl::Milliseconds(50)) << "nobody has waited since";
  for (int i = 0; i < 800; ++i) estimate.Waited(0, absl::Seconds(2), absl::Seconds(1), now);
  EXPECT_EQ(estimate.Excess(0, now), absl::ZeroDuration()) << "no wait is told to be shorter than its estimate";
}

TEST(WaitEstimateTest, FollowsAChange) {
  WaitEstimate estimate;
  for (int i = 0; i < 1000; ++i) estimate.Ended(0, absl::Seconds(1), 10);
  for (int i = 0; i < 500; ++i) estimate.Ended(0, absl::Seconds(3), 10);
  EXPECT_GT(estimate.Run(0, 0), absl::Seconds(2.9));
}

}  // namespace
}  // namespace berth::admission
