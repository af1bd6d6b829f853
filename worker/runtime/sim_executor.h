#pragma once

#include <cstdint>
#include <deque>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "worker/engine/executor.h"
#include "worker/engine/step_plan.h"
#include "worker/runtime/sim_device.h"

namespace berth::runtime {

// What goes wrong, to prove that nobody notices. Tokens are counted as they are drawn; -1: never.
struct SimFaults {
  int64_t stall_after_tokens = -1;  // no later step ends
  int64_t fail_after_tokens = -1;   // every later step is a device fault
  int64_t exit_after_tokens = -1;   // the process exits with status 1
  int32_t crash_on_token = -1;      // the process aborts when a row has this token or draws it
  double slow_factor = 1;           // on the time of every step
};

struct SimExecutorOptions {
  SimDeviceOptions device;
  absl::Duration step_time;              // of every step
  double prefill_tokens_per_second = 0;  // literal tokens take this long on top; 0: none
  SimFaults faults;
};

// Serves the simulated model through the real engine, with a thread of its own as a device has one.
class SimExecutor : public engine::Executor {
 public:
  explicit SimExecutor(const SimExecutorOptions& options);
  ~SimExecutor() override;

  engine::ExecutorLimits limits() const override;
  void Submit(engine::StepPlan plan) override;
  absl::StatusOr<engine::StepResult> Await() override;

  // Lets a stalled device go on, for good. Thread-safe.
  void EndStall();

 private:
  void Run();
  absl::StatusOr<engine::StepResult> RunStep(const engine::StepPlan& plan);
  absl::Duration StepTime(const engine::StepPlan& plan) const;
  bool WaitUntil(absl::Duration end);

  const SimExecutorOptions options_;
  SimDevice device_;          // executor thread only
  int64_t tokens_drawn_ = 0;  // executor thread only

  base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<engine::StepPlan> plans_ ABSL_GUARDED_BY(mutex_);
  std::deque<absl::StatusOr<engine::StepResult>> results_ ABSL_GUARDED_BY(mutex_);
  bool stall_ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace berth::runtime
