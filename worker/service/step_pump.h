#pragma once

#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"
#include "proto/rpc/shard.h"
#include "worker/engine/step_ring.h"

namespace berth::service {

// Brings what the engine puts into the step ring to the I/O thread, one batch at a time: while the I/O thread is busy, steps
// gather in the ring, whose capacity is the only bound.
class StepPump {
 public:
  using Handler = absl::AnyInvocable<void(std::vector<engine::StepOutput>)>;

  // `handler` runs on the shard's thread.
  StepPump(engine::StepRing& ring, rpc::Shard& shard, Handler handler);
  ~StepPump();  // the ring must be closed

 private:
  void Run();
  void SetBusy(bool busy);

  engine::StepRing& ring_;
  rpc::Shard& shard_;
  Handler handler_;
  base::Mutex mutex_;
  base::CondVar idle_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace berth::service
