#include "proto/rpc/shard.h"

#include <string>
#include <thread>

#include "gtest/gtest.h"

namespace berth::rpc {
namespace {

TEST(Shard, RunsPostedFunctionsInOrderOnOneThread) {
  Shard shard(std::make_unique<grpc::CompletionQueue>());
  shard.Start();
  std::string order;
  base::Notification both_posted, done;
  std::thread::id first, last;
  shard.Post([&] {
    both_posted.Wait();
    order += "a";
    first = std::this_thread::get_id();
    shard.Post([&] { order += "c"; });
  });
  shard.Post([&] { order += "b"; });
  both_posted.Notify();
  std::thread other([&] {
    shard.Post([&] {
      shard.Post([&] {
        last = std::this_thread::get_id();
        done.Notify();
      });
    });
  });
  other.join();
  done.Wait();
  EXPECT_EQ(order, "abc");
  EXPECT_EQ(first, last);
  EXPECT_NE(first, std::this_thread::get_id());
}

TEST(Shard, ManyPostersLoseNothing) {
  Shard shard(std::make_unique<grpc::CompletionQueue>());
  shard.Start();
  int count = 0;
  base::Notification done;
  constexpr int kThreads = 4, kPosts = 1000;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kPosts; ++n) {
        shard.Post([&] {
          if (++count == kThreads * kPosts) done.Notify();
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(done.WaitFor(absl::Seconds(20)));
}

TEST(Shard, TimersRunInTheOrderOfTheirTimesAndCancelledOnesDoNot) {
  Shard shard(std::make_unique<grpc::CompletionQueue>());
  shard.Start();
  std::string order;
  base::Notification done;
  shard.Post([&] {
    shard.After(absl::Milliseconds(20), [&] {
      order += "c";
      done.Notify();
    });
    shard.After(absl::Milliseconds(5), [&] { order += "b"; });
    const Shard::TimerId cancelled = shard.After(absl::Milliseconds(1), [&] { order += "x"; });
    shard.After(absl::ZeroDuration(), [&] { order += "a"; });
    shard.CancelTimer(cancelled);
  });
  done.Wait();
  EXPECT_EQ(order, "abc");
}

TEST(Shard, StopDropsTimersAndLaterPosts) {
  bool ran = false;
  auto token = std::make_shared<int>();
  std::weak_ptr<int> watch = token;
  {
    Shard shard(std::make_unique<grpc::CompletionQueue>());
    shard.Start();
    base::Notification armed;
    shard.Post([&, token = std::move(token)]() mutable {
      shard.After(absl::Hours(1), [&ran, token = std::move(token)] { ran = true; });
      armed.Notify();
    });
    armed.Wait();
    shard.Stop();
    shard.Post([&] { ran = true; });
  }
  EXPECT_FALSE(ran);
  EXPECT_TRUE(watch.expired());
}

TEST(Shard, OneThatNeverStartedStops) { Shard(std::make_unique<grpc::CompletionQueue>()).Stop(); }

}  // namespace
}  // namespace berth::rpc
