#include "worker/engine/step_ring.h"

#include <utility>

namespace berth::engine {

bool StepRing::Push(StepOutput output) {
  base::MutexLock lock(mutex_);
  if (outputs_.size() >= capacity_ && !closed_) ++full_waits_;
  while (outputs_.size() >= capacity_ && !closed_) not_full_.Wait(mutex_);
  if (closed_) return false;
  outputs_.push_back(std::move(output));
  not_empty_.NotifyOne();
  return true;
}

bool StepRing::Pop(std::vector<StepOutput>* outputs) {
  outputs->clear();
  base::MutexLock lock(mutex_);
  while (outputs_.empty() && !closed_) not_empty_.Wait(mutex_);
  if (outputs_.empty()) return false;
  outputs->swap(outputs_);
  not_full_.NotifyOne();
  return true;
}

void StepRing::Close() {
  base::MutexLock lock(mutex_);
  closed_ = true;
  not_empty_.NotifyAll();
  not_full_.NotifyAll();
}

uint64_t StepRing::full_waits() const {
  base::MutexLock lock(mutex_);
  return full_waits_;
}

}  // namespace berth::engine
