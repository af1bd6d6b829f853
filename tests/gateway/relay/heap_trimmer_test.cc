#include "base/heap_trimmer.h"

#include <gtest/gtest.h>

#include "tests/gateway/relay/fake_time.h"

namespace berth::relay {
namespace {

class HeapTrimmerTest : public ::testing::Test {
 protected:
  int TrimsWithin(absl::Duration time) {
    const int before = trims_;
    time_.Advance(time);
    return trims_ - before;
  }

  FakeTime time_;
  const base::HeapTrimmer::After after_ = [this](absl::Duration delay, absl::AnyInvocable<void()> trim) {
    time_.After(delay, std::move(trim));
  };
  int trims_ = 0;
  base::HeapTrimmer trimmer_{after_, [this] { ++trims_; }};
};

TEST_F(HeapTrimmerTest, TrimsOnceWithinTenSecondsAfterABurstHasEnded) {
  for (int streams = 1; streams <= 10000; ++streams) trimmer_.SetStreams(streams);
  EXPECT_EQ(TrimsWithin(absl::Minutes(1)), 0);
  for (int streams = 9999; streams >= 0; --streams) trimmer_.SetStreams(streams);
  EXPECT_EQ(TrimsWithin(absl::Seconds(10)), 1);
  EXPECT_EQ(TrimsWithin(absl::Minutes(1)), 0);
}

TEST_F(HeapTrimmerTest, EveryBurstIsFollowedByATrim) {
  for (int burst = 0; burst < 3; ++burst) {
    trimmer_.SetStreams(2000);
    trimmer_.SetStreams(100);
    EXPECT_EQ(TrimsWithin(absl::Seconds(10)), 1) << "burst " << burst;
  }
}

TEST_F(HeapTrimmerTest, StreamsThatComeAndGoAreNotWorthIt) {
  for (int i = 0; i < 1000; ++i) trimmer_.SetStreams(1000 + i % 400);
  EXPECT_EQ(TrimsWithin(absl::Minutes(1)), 0);
}

TEST_F(HeapTrimmerTest, SoAreFew) {
  trimmer_.SetStreams(200);
  trimmer_.SetStreams(0);
  EXPECT_EQ(TrimsWithin(absl::Minutes(1)), 0);
}

TEST_F(HeapTrimmerTest, NothingIsTrimmedWhenItHasGone) {
  {
    base::HeapTrimmer trimmer(after_, [] { ADD_FAILURE() << "trimmed"; });
    trimmer.SetStreams(1000);
    trimmer.SetStreams(0);
  }
  time_.Advance(absl::Minutes(1));
}

}  // namespace
}  // namespace berth::relay
