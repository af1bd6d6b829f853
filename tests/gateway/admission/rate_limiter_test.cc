#include "gateway/admission/rate_limiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/rpc/status.h"

namespace berth::admission {
namespace {

constexpr absl::Duration kStart = absl::Hours(5);

class RateLimiterTest : public ::testing::Test {
 protected:
  int TakeAll(const rpc::Tenant& tenant, int gateways = 1) {
    for (int taken = 0;; ++taken) {
      if (!limiter_.Take(tenant, 0, false, gateways, now_).ok()) return taken;
    }
  }

  RateLimiter limiter_;
  absl::Duration now_ = kStart;
  const rpc::Tenant requests_{.name = "a", .requests_per_minute = 60};
  const rpc::Tenant tokens_{.name = "t", .tokens_per_minute = 600};
};

TEST_F(RateLimiterTest, AMinutesWorthAtOnceThenAsTimePasses) {
  EXPECT_EQ(TakeAll(requests_), 60);
  const absl::Status refused = limiter_.Take(requests_, 0, false, 1, now_);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(rpc::Reason(refused), "RATE_LIMITED");
  EXPECT_EQ(rpc::RetryAfter(refused), absl::Seconds(1));
  EXPECT_EQ(refused.message(), "tenant a has used up its 60 requests per minute");
  now_ += absl::Seconds(10);
  EXPECT_EQ(TakeAll(requests_), 10);
  now_ += absl::Hours(1);
  EXPECT_EQ(TakeAll(requests_), 60) << "never more than a minute's worth";
}

TEST_F(RateLimiterTest, TenantsDoNotShareAndTheUnlimitedAreNeverRefused) {
  TakeAll(requests_);
  const rpc::Tenant other{.name = "b", .requests_per_minute = 60};
  EXPECT_TRUE(limiter_.Take(other, 0, false, 1, now_).ok());
  EXPECT_TRUE(limiter_.Take(requests_, 0, true, 1, now_).ok()) << "a part of a request is none";
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(limiter_.Take({.name = "free"}, 1 << 30, false, 1, now_).ok());
  EXPECT_FALSE(limiter_.Get({.name = "free"}, 1, now_).tokens.has_value());
}

TEST_F(RateLimiterTest, GatewaysShareTheLimit) {
  EXPECT_EQ(TakeAll(requests_, /*gateways=*/3), 20);
  // One of them leaves: the share grows, what was used stays used.
  EXPECT_EQ(TakeAll(requests_, /*gateways=*/2), 10);
  EXPECT_EQ(TakeAll({.name = "slow", .requests_per_minute = 1}, /*gateways=*/8), 1) << "a share is at least one";
}

TEST_F(RateLimiterTest, AnEstimateIsCorrectedAndDebtIsPaidBack) {
  EXPECT_TRUE(limiter_.Take(tokens_, 100, false, 1, now_).ok());
  limiter_.Correct(tokens_, -60);
  EXPECT_EQ(limiter_.Get(tokens_, 1, now_).tokens->remaining, 560);
  limiter_.Correct(tokens_, 800);
  const absl::Status refused = limiter_.Take(tokens_, 10, false, 1, now_);
  EXPECT_EQ(rpc::RetryAfter(refused), absl::Seconds(25)) << "240 of debt and 10, at 10 a second";
  EXPECT_EQ(limiter_.Get(tokens_, 1, now_).tokens->remaining, 0);
  now_ += absl::Seconds(25);
  EXPECT_TRUE(limiter_.Take(tokens_, 10, false, 1, now_).ok());
}

TEST_F(RateLimiterTest, ARequestLargerThanTheBucketNeedsAFullOne) {
  EXPECT_TRUE(limiter_.Take(tokens_, 900, false, 1, now_).ok());
  EXPECT_FALSE(limiter_.Take(tokens_, 1, false, 1, now_).ok());
  now_ += absl::Seconds(89);
  EXPECT_FALSE(limiter_.Take(tokens_, 900, false, 1, now_).ok());
  now_ += absl::Seconds(1);
  EXPECT_TRUE(limiter_.Take(tokens_, 900, false, 1, now_).ok());
}

TEST_F(RateLimiterTest, LevelsTellLimitRemainderAndReset) {
  const rpc::Tenant both{.name = "x", .requests_per_minute = 120, .tokens_per_minute = 6000};
  EXPECT_TRUE(limiter_.Take(both, 1000, false, 2, now_).ok());
  const RateLimiter::Levels levels = limiter_.Get(both, 2, now_);
  EXPECT_EQ(levels.requests->limit, 60);
  EXPECT_EQ(levels.requests->remaining, 59);
  EXPECT_EQ(levels.requests->reset, absl::Seconds(1));
  EXPECT_EQ(levels.tokens->limit, 3000);
  EXPECT_EQ(levels.tokens->remaining, 2000);
  EXPECT_EQ(levels.tokens->reset, absl::Seconds(20));
}

TEST_F(RateLimiterTest, AChangedLimitCountsAtOnce) {
  TakeAll(requests_);
  EXPECT_EQ(TakeAll({.name = "a", .requests_per_minute = 90}), 30);
  EXPECT_EQ(TakeAll({.name = "a", .requests_per_minute = 30}), 0);
}

}  // namespace
}  // namespace berth::admission
