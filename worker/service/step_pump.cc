#include "worker/service/step_pump.h"

#include <pthread.h>

#include <utility>

#include "absl/cleanup/cleanup.h"

namespace berth::service {

StepPump::StepPump(engine::StepRing& ring, rpc::Shard& shard, Handler handler)
    : ring_(ring), shard_(shard), handler_(std::move(handler)) {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "step-pump");
    Run();
  });
}

StepPump::~StepPump() { thread_.join(); }

void StepPump::Run() {
  std::vector<engine::StepOutput> steps;
  while (ring_.Pop(&steps)) {
    SetBusy(true);
    // Also when a stopped shard drops the function.
    absl::Cleanup done = [this] { SetBusy(false); };
    shard_.Post([this, steps = std::move(steps), done = std::move(done)]() mutable { handler_(std::move(steps)); });
    base::MutexLock lock(mutex_);
    while (busy_) idle_.Wait(mutex_);
  }
}

void StepPump::SetBusy(bool busy) {
  base::MutexLock lock(mutex_);
  busy_ = busy;
  idle_.NotifyOne();
}

}  // namespace berth::service
