#include "gateway/admission/wait_estimate.h"

#include <gtest/gtest.h>

namespace berth::admission {
namespace {

TEST(WaitEstimateTest, NothingIsRefusedBeforeAnythingIsKnown) {
  const WaitEstimate estimate;
  EXPECT_EQ(estimate.Wait(1000, 1), absl::ZeroDuration());
  EXPECT_EQ(estimate.Run(0), absl::ZeroDuration());
}

TEST(WaitEstimateTest, PlacesBecomeFreeAsFastAsRequestsEnd) {
  WaitEstimate estimate;
  for (int i = 0; i < 10; ++i) estimate.Ended(absl::Seconds(2), 100);
  // Eight places of 2 s each: one every 250 ms.
  EXPECT_EQ(estimate.Wait(0, 8), absl::Milliseconds(250));
  EXPECT_EQ(estimate.Wait(39, 8), absl::Seconds(10));
}

TEST(WaitEstimateTest, AShortAnswerTakesItsShareOfTheMean) {
  WaitEstimate estimate;
  estimate.Ended(absl::Seconds(2), 100);
  EXPECT_EQ(estimate.Run(0), absl::Seconds(2));
  EXPECT_EQ(estimate.Run(25), absl::Milliseconds(500));
  EXPECT_EQ(estimate.Run(100000), absl::Seconds(2)) << "most answers end before their limit";
}

TEST(WaitEstimateTest, FollowsAChange) {
  WaitEstimate estimate;
  for (int i = 0; i < 1000; ++i) estimate.Ended(absl::Seconds(1), 10);
  for (int i = 0; i < 500; ++i) estimate.Ended(absl::Seconds(3), 10);
  EXPECT_GT(estimate.Run(0), absl::Seconds(2.9));
}

}  // namespace
}  // namespace berth::admission
