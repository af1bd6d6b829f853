#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace berth::kernels::cpu {

// Runs the tasks of one op on a fixed set of threads, the caller's among them. A thread that is late finds no task left and
// delays nobody, so a pool shares cores with other processes gracefully. Between the ops of a step a thread spins for some
// microseconds before it sleeps; idle, it sleeps.
class ThreadPool {
 public:
  using Task = absl::FunctionRef<void(int task, int thread)>;

  // `threads` >= 1, the caller of Run included.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(i, thread) once for each i in [0, tasks), thread in [0, threads()), and returns when all have returned.
  // Thread: one caller at a time; not from within a task.
  void Run(int tasks, Task task);

 private:
  void Work(int thread);
  void TakeTasks(uint32_t epoch, int thread);

  // Counts calls of Run that woke the workers; the last one is the destructor's.
  std::atomic<uint32_t> epoch_{0};
  std::atomic<bool> stopping_{false};
  // epoch << 32 | tasks nobody has taken. A successful decrement proves that the run of that epoch is not over, so that task_
  // and tasks_ are this run's.
  std::atomic<uint64_t> untaken_{0};
  std::atomic<uint32_t> unfinished_{0};
  std::atomic<const Task*> task_{nullptr};
  std::atomic<int> tasks_{0};
  std::vector<std::thread> workers_;
};

}  // namespace berth::kernels::cpu
