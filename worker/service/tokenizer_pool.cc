#include "worker/service/tokenizer_pool.h"

#include <utility>

namespace berth::service {

TokenizerPool::TokenizerPool(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

TokenizerPool::~TokenizerPool() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void TokenizerPool::Post(absl::AnyInvocable<void()> task) {
  base::MutexLock lock(mutex_);
  tasks_.push_back(std::move(task));
  wake_.NotifyOne();
}

void TokenizerPool::Run() {
  while (true) {
    absl::AnyInvocable<void()> task;
    {
      base::MutexLock lock(mutex_);
      while (tasks_.empty() && !stopping_) wake_.Wait(mutex_);
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace berth::service
