#pragma once

#include <deque>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"

namespace berth::service {

// Threads that render and encode prompts, so that a long one never holds the I/O thread up. Thread-safe.
class TokenizerPool {
 public:
  explicit TokenizerPool(int threads);
  ~TokenizerPool();  // runs what was posted, then joins

  // Bounded by the requests that admission lets in.
  void Post(absl::AnyInvocable<void()> task);

 private:
  void Run();

  base::Mutex mutex_;
  base::CondVar wake_;
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace berth::service
