#include "base/mutex.h"

#include <gtest/gtest.h>

#include <thread>

namespace berth::base {
namespace {

TEST(NotificationTest, WakesAWaiterInAnotherThread) {
  Notification started, done;
  std::thread waiter([&] {
    started.Wait();
    done.Notify();
  });
  EXPECT_FALSE(done.HasBeenNotified());
  started.Notify();
  EXPECT_TRUE(done.WaitFor(absl::Seconds(30)));
  waiter.join();
}

TEST(NotificationTest, WaitForTimesOut) {
  Notification never;
  EXPECT_FALSE(never.WaitFor(absl::Milliseconds(1)));
}

}  // namespace
}  // namespace berth::base
