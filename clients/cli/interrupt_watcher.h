#pragma once

#include <functional>
#include <thread>

namespace berth::cli {

// From here on SIGINT waits for an InterruptWatcher, in this thread and those that it starts.
void BlockInterrupts();

// Runs a function at each SIGINT. Needs BlockInterrupts in all threads. Thread: the owner's.
class InterruptWatcher {
 public:
  // `on_interrupt` runs on the watcher's thread.
  explicit InterruptWatcher(std::function<void()> on_interrupt);
  ~InterruptWatcher();

 private:
  std::thread thread_;
};

}  // namespace berth::cli
