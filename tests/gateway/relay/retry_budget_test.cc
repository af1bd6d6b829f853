#include "gateway/relay/retry_budget.h"

#include <gtest/gtest.h>

namespace berth::relay {
namespace {

int TakeAll(RetryBudget& budget, absl::Duration now) {
  int taken = 0;
  while (budget.Take(now)) ++taken;
  return taken;
}

constexpr absl::Duration kNow = absl::Seconds(1000);

TEST(RetryBudgetTest, TenASecondAreFree) {
  RetryBudget budget;
  EXPECT_EQ(TakeAll(budget, kNow), 100);
  EXPECT_EQ(TakeAll(budget, kNow + absl::Seconds(9)), 0);
  EXPECT_EQ(TakeAll(budget, kNow + absl::Seconds(10)), 100);
}

TEST(RetryBudgetTest, AFifthOfTheLatestTrafficIsAddedToThem) {
  RetryBudget budget;
  for (int i = 0; i < 1000; ++i) budget.CountRequest(kNow);
  EXPECT_EQ(TakeAll(budget, kNow + absl::Seconds(5)), 300);
  EXPECT_EQ(TakeAll(budget, kNow + absl::Seconds(14)), 0) << "the traffic is forgotten, the retries are not";
  EXPECT_EQ(TakeAll(budget, kNow + absl::Seconds(15)), 100);
}

}  // namespace
}  // namespace berth::relay
