#include "gateway/relay/circuits.h"

namespace berth::relay {

Circuits::~Circuits() {
  for (const auto& [worker, timer] : timers_) parts_.timers.Cancel(timer);
}

void Circuits::Fault(int worker) {
  if (parts_.view.Faulted(worker, parts_.clock.Monotonic())) OnEjected(worker);
}

void Circuits::JudgePace(int worker, routing::PaceKind kind, absl::Duration time) {
  if (parts_.view.Timed(worker, kind, time, parts_.clock.Monotonic())) OnEjected(worker);
}

void Circuits::Success(int worker) {
  if (parts_.view.Succeeded(worker)) parts_.metrics.CircuitChanged(parts_.view.worker(worker), routing::Circuit::kClosed);
}

void Circuits::Forget(int worker) {
  if (const auto timer = timers_.extract(worker)) parts_.timers.Cancel(timer.mapped());
}

void Circuits::OnEjected(int worker) {
  Show(worker, routing::Circuit::kOpen);
  const absl::Duration open = parts_.view.worker(worker).ejected_until - parts_.clock.Monotonic();
  timers_[worker] = parts_.timers.After(open, [this, worker] {
    timers_.erase(worker);
    Show(worker, routing::Circuit::kHalfOpen);
    on_half_open_();
  });
}

void Circuits::Show(int worker, routing::Circuit changed) {
  parts_.metrics.CircuitChanged(parts_.view.worker(worker), changed);
  parts_.metrics.SetWorker(parts_.view.worker(worker), parts_.clock.Monotonic());
}

}  // namespace berth::relay
