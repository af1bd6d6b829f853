#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <vector>

#include "base/mutex.h"
#include "gtest/gtest.h"

namespace berth::kernels::cpu {
namespace {

TEST(ThreadPool, RunsEveryTaskOnceAndReturnsAfterAll) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int tasks : {0, 1, 2, 3, 100}) {
      for (int round = 0; round < 50; ++round) {
        std::vector<int> runs(tasks);
        pool.Run(tasks, [&](int task, int thread) {
          EXPECT_TRUE(thread >= 0 && thread < threads);
          ++runs[task];
        });
        ASSERT_EQ(runs, std::vector<int>(tasks, 1));
      }
    }
  }
}

TEST(ThreadPool, TasksRunAtTheSameTime) {
  ThreadPool pool(2);
  base::Notification first, second;
  pool.Run(2, [&](int task, int) {
    (task == 0 ? first : second).Notify();
    (task == 0 ? second : first).Wait();
  });
}

TEST(ThreadPool, WaitsForTheSlowestTask) {
  ThreadPool pool(2);
  base::Notification first, second;
  std::atomic<int> steps{0};
  pool.Run(2, [&](int task, int thread) {
    (task == 0 ? first : second).Notify();
    (task == 0 ? second : first).Wait();
    for (int i = 0; thread == 1 && i < 1000000; ++i) ++steps;
  });
  EXPECT_EQ(steps, 1000000);
}

TEST(ThreadPool, NoTwoTasksShareAThreadIndexAtATime) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  pool.Run(500, [&](int, int thread) {
    EXPECT_EQ(inside[thread].fetch_add(1), 0);
    inside[thread].fetch_sub(1);
  });
}

}  // namespace
}  // namespace berth::kernels::cpu
