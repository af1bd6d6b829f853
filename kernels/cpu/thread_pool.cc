#include "kernels/cpu/thread_pool.h"

#include <hwy/cache_control.h>

#include "base/check.h"

namespace berth::kernels::cpu {
namespace {

// About 30 µs: longer than the serial parts between two ops of a step, shorter than what a sleeping thread takes to wake.
constexpr int kSpins = 800;

// Returns once `value` differs from `old`.
void AwaitChange(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    hwy::Pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  BERTH_CHECK(threads >= 1) << threads << " threads";
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int tasks, Task task) {
  if (tasks <= 1 || workers_.empty()) {
    for (int i = 0; i < tasks; ++i) task(i, 0);
    return;
  }
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  task_.store(&task, std::memory_order_relaxed);
  tasks_.store(tasks, std::memory_order_relaxed);
  unfinished_.store(tasks, std::memory_order_relaxed);
  untaken_.store(uint64_t{epoch} << 32 | static_cast<uint32_t>(tasks), std::memory_order_release);
  epoch_.store(epoch, std::memory_order_release);
  epoch_.notify_all();
  TakeTasks(epoch, 0);
  for (uint32_t left; (left = unfinished_.load(std::memory_order_acquire)) != 0;) AwaitChange(unfinished_, left);
}

void ThreadPool::Work(int thread) {
  uint32_t seen = 0;
  while (true) {
    AwaitChange(epoch_, seen);
    seen = epoch_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    TakeTasks(seen, thread);
  }
}

void ThreadPool::TakeTasks(uint32_t epoch, int thread) {
  uint64_t word = untaken_.load(std::memory_order_acquire);
  while (word >> 32 == epoch && static_cast<uint32_t>(word) != 0) {
    if (!untaken_.compare_exchange_weak(word, word - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    const int task = tasks_.load(std::memory_order_relaxed) - static_cast<int>(static_cast<uint32_t>(word));
    (*task_.load(std::memory_order_relaxed))(task, thread);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_all();
    word = untaken_.load(std::memory_order_acquire);
  }
}

}  // namespace berth::kernels::cpu
