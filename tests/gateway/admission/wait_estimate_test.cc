#include "gateway/admission/wait_estimate.h"

#include <gtest/gtest.h>

namespace berth::admission {
namespace {

TEST(WaitEstimateTest, NothingIsRefusedBeforeAnythingIsKnown) {
  const WaitEstimate estimate;
  EXPECT_EQ(estimate.Wait(0, 1000, 1), absl::ZeroDuration());
  EXPECT_EQ(estimate.Run(0), absl::ZeroDuration());
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
  EXPECT_EQ(estimate.Run(0), absl::Seconds(2));
  EXPECT_EQ(estimate.Run(25), absl::Milliseconds(500));
  EXPECT_EQ(estimate.Run(100000), absl::Seconds(2)) << "most answers end before their limit";
}

TEST(WaitEstimateTest, AHigherPriorityTakesItsShareFirst) {
  WaitEstimate estimate;
  for (int i = 0; i < 2000; ++i) estimate.Ended(i % 4 == 0 ? 0 : 5, absl::Seconds(1), 10);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Wait(5, 7, 8)), 1, 1e-9);
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Wait(0, 7, 8)), 4, 0.1);
  for (int i = 0; i < 1000; ++i) estimate.Ended(5, absl::Seconds(1), 10);
  EXPECT_GT(estimate.Wait(0, 7, 8), absl::Seconds(50)) << "nothing is left for it";
}

TEST(WaitEstimateTest, FollowsAChange) {
  WaitEstimate estimate;
  for (int i = 0; i < 1000; ++i) estimate.Ended(0, absl::Seconds(1), 10);
  for (int i = 0; i < 500; ++i) estimate.Ended(0, absl::Seconds(3), 10);
  EXPECT_GT(estimate.Run(0), absl::Seconds(2.9));
}

}  // namespace
}  // namespace berth::admission
