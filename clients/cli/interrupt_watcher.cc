#include "clients/cli/interrupt_watcher.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace berth::cli {
namespace {

// SIGUSR2 ends the watcher's thread.
sigset_t Watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGUSR2);
  return set;
}

}  // namespace

void BlockInterrupts() {
  const sigset_t set = Watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

InterruptWatcher::InterruptWatcher(std::function<void()> on_interrupt)
    : thread_([on_interrupt = std::move(on_interrupt)] {
        const sigset_t set = Watched();
        for (int number = 0; sigwait(&set, &number) == 0 && number == SIGINT;) on_interrupt();
      }) {}

InterruptWatcher::~InterruptWatcher() {
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

}  // namespace berth::cli
