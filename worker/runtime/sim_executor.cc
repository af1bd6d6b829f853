#include "worker/runtime/sim_executor.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"

namespace berth::runtime {

using engine::RowRecord;
using engine::RowResult;
using engine::StepPlan;
using engine::StepResult;

SimExecutor::SimExecutor(const SimExecutorOptions& options)
    : options_(options), device_(options.device), thread_([this] { Run(); }) {}

SimExecutor::~SimExecutor() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

engine::ExecutorLimits SimExecutor::limits() const { return options_.device.limits; }

void SimExecutor::Submit(StepPlan plan) {
  base::MutexLock lock(mutex_);
  plans_.push_back(std::move(plan));
  changed_.NotifyAll();
}

absl::StatusOr<StepResult> SimExecutor::Await() {
  base::MutexLock lock(mutex_);
  while (results_.empty()) changed_.Wait(mutex_);
  absl::StatusOr<StepResult> result = std::move(results_.front());
  results_.pop_front();
  return result;
}

void SimExecutor::EndStall() {
  base::MutexLock lock(mutex_);
  stall_ended_ = true;
  changed_.NotifyAll();
}

void SimExecutor::Run() {
  pthread_setname_np(pthread_self(), "device");
  while (true) {
    StepPlan plan;
    {
      base::MutexLock lock(mutex_);
      while (plans_.empty() && !stopping_) changed_.Wait(mutex_);
      if (stopping_) return;
      plan = std::move(plans_.front());
      plans_.pop_front();
    }
    const absl::Duration begin = base::SystemClock().Monotonic();
    absl::StatusOr<StepResult> result = RunStep(plan);
    if (!WaitUntil(begin + StepTime(plan))) return;
    base::MutexLock lock(mutex_);
    results_.push_back(std::move(result));
    changed_.NotifyAll();
  }
}

absl::StatusOr<StepResult> SimExecutor::RunStep(const StepPlan& plan) {
  const SimFaults& faults = options_.faults;
  const auto crash_on = [&faults](int32_t token) {
    if (faults.crash_on_token >= 0 && token == faults.crash_on_token) std::abort();
  };
  for (const RowRecord& row : plan.rows()) {
    if (row.token_begin == RowRecord::kLastSampled) continue;
    for (const int32_t token : plan.tokens().subspan(row.token_begin, row.count)) crash_on(token);
  }
  BERTH_ASSIGN_OR_RETURN(StepResult result, device_.Run(plan));
  for (const RowResult& row : result.rows) crash_on(row.token);
  tokens_drawn_ += static_cast<int64_t>(result.rows.size());
  if (faults.fail_after_tokens >= 0 && tokens_drawn_ > faults.fail_after_tokens) {
    return absl::InternalError(absl::StrCat("the simulated device failed after ", faults.fail_after_tokens, " tokens"));
  }
  if (faults.exit_after_tokens >= 0 && tokens_drawn_ > faults.exit_after_tokens) std::_Exit(1);
  return result;
}

absl::Duration SimExecutor::StepTime(const StepPlan& plan) const {
  absl::Duration time = options_.step_time;
  if (options_.prefill_tokens_per_second > 0) {
    int literal = 0;
    for (const RowRecord& row : plan.rows()) literal += row.token_begin == RowRecord::kLastSampled ? 0 : row.count;
    time += absl::Seconds(literal / options_.prefill_tokens_per_second);
  }
  return time * options_.faults.slow_factor;
}

// False when the executor is stopping.
bool SimExecutor::WaitUntil(absl::Duration end) {
  const int64_t stall_after = options_.faults.stall_after_tokens;
  const bool stalled = stall_after >= 0 && tokens_drawn_ > stall_after;
  base::MutexLock lock(mutex_);
  while (stalled && !stall_ended_ && !stopping_) changed_.Wait(mutex_);
  while (!stopping_) {
    const absl::Duration left = end - base::SystemClock().Monotonic();
    if (left <= absl::ZeroDuration()) return true;
    changed_.WaitFor(mutex_, left);
  }
  return false;
}

}  // namespace berth::runtime
