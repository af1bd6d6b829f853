#include "gateway/admission/waiting_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/rpc/status.h"

namespace berth::admission {
namespace {

using ::testing::ElementsAre;

TEST(WaitingQueueTest, PriorityFirstThenArrival) {
  WaitingQueue queue(10);
  ASSERT_TRUE(queue.Push(1, 0).ok());
  ASSERT_TRUE(queue.Push(2, -5).ok());
  ASSERT_TRUE(queue.Push(3, 7).ok());
  ASSERT_TRUE(queue.Push(4, 0).ok());
  ASSERT_TRUE(queue.Push(5, 7).ok());
  EXPECT_THAT(queue.InOrder(), ElementsAre(3, 5, 1, 4, 2));
  EXPECT_THAT(queue.depths(), ElementsAre(1, 2, 2));
}

TEST(WaitingQueueTest, RemovedRequestsAreGone) {
  WaitingQueue queue(10);
  ASSERT_TRUE(queue.Push(1, 0).ok());
  ASSERT_TRUE(queue.Push(2, 3).ok());
  queue.Remove(1);
  queue.Remove(99);
  EXPECT_THAT(queue.InOrder(), ElementsAre(2));
  EXPECT_THAT(queue.depths(), ElementsAre(0, 0, 1));
  ASSERT_TRUE(queue.Push(1, 5).ok());
  EXPECT_THAT(queue.InOrder(), ElementsAre(1, 2));
}

TEST(WaitingQueueTest, AFullQueueRefusesEqualsWithRetryInfo) {
  WaitingQueue queue(2);
  ASSERT_TRUE(queue.Push(1, 0).ok());
  ASSERT_TRUE(queue.Push(2, 0).ok());
  const auto refused = queue.Push(3, 0);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(rpc::Reason(refused.status()), "QUEUE_FULL");
  EXPECT_TRUE(rpc::RetryAfter(refused.status()).has_value());
  EXPECT_THAT(queue.InOrder(), ElementsAre(1, 2));
}

TEST(WaitingQueueTest, AHigherPriorityDisplacesTheLastOfTheLowest) {
  WaitingQueue queue(3);
  ASSERT_TRUE(queue.Push(1, -1).ok());
  ASSERT_TRUE(queue.Push(2, -1).ok());
  ASSERT_TRUE(queue.Push(3, 5).ok());
  const auto displaced = queue.Push(4, 0);
  ASSERT_TRUE(displaced.ok());
  EXPECT_EQ(*displaced, std::optional<uint64_t>(2));
  EXPECT_THAT(queue.InOrder(), ElementsAre(3, 4, 1));
}

TEST(WaitingQueueTest, ACapacityOfZeroRefusesAll) {
  WaitingQueue queue(0);
  EXPECT_FALSE(queue.Push(1, 100).ok());
}

TEST(WaitingQueueTest, KnowsWhoIsAheadOfANewcomer) {
  WaitingQueue queue(3);
  EXPECT_FALSE(queue.HasAhead(0));
  ASSERT_TRUE(queue.Push(1, 2).ok());
  EXPECT_TRUE(queue.HasAhead(2));
  EXPECT_TRUE(queue.HasAhead(1));
  EXPECT_FALSE(queue.HasAhead(3));
}

}  // namespace
}  // namespace berth::admission
