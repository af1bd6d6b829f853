#include "worker/service/send_pace.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace berth::service {
namespace {

constexpr absl::Duration kMergeTime = absl::Milliseconds(5);

struct Sends {
  int frames = 0;
  absl::Duration longest_wait;
};

// One second of steps, sent as a link does: a frame takes `cost`, whatever it carries.
Sends SendSteps(absl::Duration step, absl::Duration cost) {
  SendPace pace(0.3, kMergeTime);
  Sends sends;
  absl::Duration oldest = absl::InfiniteDuration(), due = absl::InfiniteDuration();
  const auto send = [&](absl::Duration now) {
    ++sends.frames;
    sends.longest_wait = std::max(sends.longest_wait, now - oldest);
    pace.Sent(now);
    pace.Took(cost);
    oldest = due = absl::InfiniteDuration();
  };
  for (absl::Duration now; now < absl::Seconds(1); now += step) {
    if (due <= now) send(due);
    oldest = std::min(oldest, now);
    const absl::Duration delay = pace.Delay(now);
    if (delay == absl::ZeroDuration()) {
      send(now);
    } else {
      due = std::min(due, now + delay);
    }
  }
  return sends;
}

TEST(SendPace, QuickStepsAreMergedSoThatSendingKeepsToItsShare) {
  const Sends sends = SendSteps(absl::Microseconds(500), absl::Microseconds(280));
  EXPECT_LE(sends.frames * absl::Microseconds(280), absl::Milliseconds(320));  // of 560 without merging
  EXPECT_GE(sends.frames, 900);                                                // and no more than that asks for
}

TEST(SendPace, NothingWaitsForLongerThanTheMergeTime) {
  const Sends sends = SendSteps(absl::Microseconds(500), absl::Milliseconds(4));
  EXPECT_LE(sends.longest_wait, kMergeTime);
  EXPECT_GE(sends.frames, 195);
  EXPECT_LE(sends.frames, 250);
}

TEST(SendPace, WhatIsCheapIsNotMerged) {
  EXPECT_EQ(SendSteps(absl::Milliseconds(1), absl::Microseconds(280)).frames, 1000);
  EXPECT_EQ(SendSteps(absl::Milliseconds(20), absl::Milliseconds(4)).frames, 50);
}

TEST(SendPace, ALoneStepGoesAtOnceHoweverDearSendingIs) {
  SendPace pace(0.3, kMergeTime);
  absl::Duration now;
  for (int i = 0; i < 100; ++i) {
    pace.Sent(now);
    pace.Took(absl::Milliseconds(4));
  }
  EXPECT_GT(pace.Delay(now), absl::ZeroDuration());
  now += absl::Milliseconds(10);
  EXPECT_EQ(pace.Delay(now), absl::ZeroDuration());
}

}  // namespace
}  // namespace berth::service
