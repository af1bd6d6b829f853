#include "worker/engine/engine.h"

#include <pthread.h>

#include <algorithm>
#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/spec_check.h"
#include "worker/engine/step_time.h"

namespace berth::engine {
namespace {

struct CancelCommand {
  SequenceId id = 0;
};
struct FinishCommand {
  SequenceId id = 0;
  int output_tokens = 0;
};
using Command = std::variant<SequenceSpec, CancelCommand, FinishCommand>;

// A plan that the executor has.
struct Submitted {
  StepWork work;
  absl::Duration at;
};

// What the engine's options leave of the executor's limits.
ExecutorLimits EffectiveLimits(const EngineOptions& options, ExecutorLimits limits) {
  const auto cut = [](int& limit, int option) {
    if (option > 0) limit = std::min(limit, option);
  };
  cut(limits.max_length, options.max_length);
  cut(limits.max_length, limits.kv_blocks * kBlockTokens);
  cut(limits.slots, options.max_batch);
  cut(limits.max_step_tokens, options.step_tokens);
  cut(limits.max_depth, options.depth);
  return limits;
}

// A step for which the engine waited less had ended before.
constexpr absl::Duration kNoWait = absl::Microseconds(50);

}  // namespace

absl::Status EngineOptions::Validate() const {
  const auto refuse = [](const char* name, int value, const char* want) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", want ", want));
  };
  if (max_length < 0) return refuse("max_length", max_length, "0 or more");
  if (max_batch < 0) return refuse("max_batch", max_batch, "0 or more");
  if (step_tokens < 0 || step_tokens == 1) return refuse("step_tokens", step_tokens, "0, or 2 or more");
  if (depth < 1) return refuse("depth", depth, "1 or more");
  if (ring_capacity < 1) return refuse("ring_capacity", 0, "1 or more");
  return absl::OkStatus();
}

class Engine::Impl {
 public:
  Impl(const EngineOptions& options, std::unique_ptr<Executor> executor, const base::Clock& clock)
      : limits_(EffectiveLimits(options, executor->limits())),
        clock_(clock),
        ring_(options.ring_capacity),
        executor_(std::move(executor)),
        scheduler_({.slots = limits_.slots,
                    .kv_blocks = limits_.kv_blocks,
                    .step_tokens = limits_.max_step_tokens,
                    .prefix_cache = options.prefix_cache,
                    .cost = limits_.cost}),
        step_pace_(limits_.cost) {
    const absl::Status valid = options.Validate();
    BERTH_CHECK(valid.ok()) << valid.ToString();
    stats_ = scheduler_.stats();
  }

  void Start() {
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "engine");
      Run();
    });
  }
  ~Impl();
  bool Stop();
  absl::Status Add(SequenceSpec spec);
  void Post(Command command);
  EngineStats Stats() const;
  bool StepInFlight(absl::Duration* since, absl::Duration* budget) const;

  StepRing& ring() { return ring_; }
  const ExecutorLimits& limits() const { return limits_; }
  void OnDeviceFault(absl::AnyInvocable<void(const absl::Status&)> callback) { on_fault_ = std::move(callback); }

 private:
  // Engine thread.
  void Run();
  bool ApplyInbox(bool idle);
  absl::Duration PlanTime() const;
  void Apply(Command command);
  bool SubmitPlan();
  absl::Status FinishStep();
  void EndAll(const absl::Status& reason);
  void Publish(StepOutput output);
  void PublishPending();
  void UpdateSnapshot();

  const ExecutorLimits limits_;
  const base::Clock& clock_;
  StepRing ring_;
  absl::AnyInvocable<void(const absl::Status&)> on_fault_ = [](const absl::Status&) {};
  std::thread thread_;

  // Engine thread only.
  const std::unique_ptr<Executor> executor_;
  Scheduler scheduler_;
  StepTime step_time_;
  StepPace step_pace_;
  std::deque<Submitted> submitted_;
  absl::Duration last_step_end_, host_time_;

  mutable base::Mutex mutex_;
  base::CondVar wake_, stopped_;
  std::vector<Command> inbox_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;   // the engine thread touches nothing more
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);  // why the inbox takes nothing more
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  bool in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration step_begin_ ABSL_GUARDED_BY(mutex_);
};

Engine::Impl::~Impl() {
  Stop();
  if (thread_.joinable()) thread_.join();
}

bool Engine::Impl::Stop() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyOne();
    while (thread_.joinable() && !ended_) {
      const absl::Duration left = in_flight_ ? step_begin_ + stats_.step_budget - clock_.Monotonic() : absl::InfiniteDuration();
      if (left <= absl::ZeroDuration()) return false;
      stopped_.WaitFor(mutex_, std::min(left, absl::Hours(1)));
    }
  }
  if (thread_.joinable()) thread_.join();
  ring_.Close();
  return true;
}

absl::Status Engine::Impl::Add(SequenceSpec spec) {
  BERTH_RETURN_IF_ERROR(CheckSpec(limits_, &spec));
  base::MutexLock lock(mutex_);
  if (!closed_.ok()) return closed_;
  if (stopping_) return absl::UnavailableError("the engine is stopping");
  inbox_.emplace_back(std::move(spec));
  wake_.NotifyOne();
  return absl::OkStatus();
}

void Engine::Impl::Post(Command command) {
  base::MutexLock lock(mutex_);
  if (!closed_.ok()) return;
  inbox_.push_back(std::move(command));
  wake_.NotifyOne();
}

EngineStats Engine::Impl::Stats() const {
  const uint64_t ring_full_waits = ring_.full_waits();
  base::MutexLock lock(mutex_);
  EngineStats stats = stats_;
  stats.ring_full_waits = ring_full_waits;
  return stats;
}

bool Engine::Impl::StepInFlight(absl::Duration* since, absl::Duration* budget) const {
  base::MutexLock lock(mutex_);
  *since = step_begin_;
  *budget = stats_.step_budget;
  return in_flight_;
}

void Engine::Impl::Run() {
  absl::Status fault;
  for (bool idle = true; fault.ok() && ApplyInbox(idle);) {
    const bool submitted = SubmitPlan();
    idle = submitted_.empty();
    if (idle) {
      PublishPending();
    } else if (!submitted || static_cast<int>(submitted_.size()) == limits_.max_depth) {
      fault = FinishStep();
    }
  }
  while (fault.ok() && !submitted_.empty()) fault = FinishStep();
  EndAll(fault);
  if (!fault.ok()) on_fault_(fault);
  ring_.Close();
  base::MutexLock lock(mutex_);
  ended_ = true;
  stopped_.NotifyAll();
}

// Waits until the next step is to be planned, if there is anything to plan; `idle`: until a command comes or a deadline passes.
// False when the engine is to stop.
bool Engine::Impl::ApplyInbox(bool idle) {
  const absl::Duration end = idle ? scheduler_.NextDeadline() : scheduler_.has_work() ? PlanTime() : absl::ZeroDuration();
  std::vector<Command> commands;
  {
    base::MutexLock lock(mutex_);
    while (!stopping_ && !(idle && !inbox_.empty())) {
      const absl::Duration left = end - clock_.Monotonic();
      if (left <= absl::ZeroDuration()) break;
      wake_.WaitFor(mutex_, std::min(left, absl::Hours(1)));
    }
    if (stopping_) return false;
    commands.swap(inbox_);
  }
  for (Command& command : commands) Apply(std::move(command));
  return true;
}

// Late, so that the step has all that comes in meanwhile, yet before the device has nothing left to do.
absl::Duration Engine::Impl::PlanTime() const {
  if (submitted_.empty()) return absl::ZeroDuration();
  const Submitted& running = submitted_.back();
  return std::max(last_step_end_, running.at) + PlanDelay(running.work, step_pace_.Expect(running.work));
}

void Engine::Impl::Apply(Command command) {
  if (auto* spec = std::get_if<SequenceSpec>(&command)) {
    scheduler_.Add(std::move(*spec));
  } else if (const auto* cancel = std::get_if<CancelCommand>(&command)) {
    scheduler_.Cancel(cancel->id);
  } else if (const auto* finish = std::get_if<FinishCommand>(&command)) {
    scheduler_.Finish(finish->id, finish->output_tokens);
  }
}

// False when there is nothing to compute before a step in flight ends.
bool Engine::Impl::SubmitPlan() {
  const absl::Duration begin = clock_.Monotonic();
  StepPlan plan = scheduler_.Plan(begin);
  if (plan.empty()) return false;
  submitted_.push_back({.work = WorkOf(plan), .at = clock_.Monotonic()});
  UpdateSnapshot();
  executor_->Submit(std::move(plan));
  host_time_ += clock_.Monotonic() - begin;
  return true;
}

absl::Status Engine::Impl::FinishStep() {
  const absl::Duration begin = clock_.Monotonic();
  absl::StatusOr<StepResult> result = executor_->Await();
  const absl::Duration now = clock_.Monotonic();
  if (!result.ok()) return result.status();
  const Submitted step = submitted_.front();
  submitted_.pop_front();
  // A step that was planned ahead began when the one before it ended.
  const absl::Duration time = now - std::max(step.at, last_step_end_);
  last_step_end_ = now;
  step_time_.Record(step.work.tokens, time);
  step_pace_.Record(step.work, time, /*exact=*/now - begin >= kNoWait);
  const uint64_t step_number = result->step;
  std::vector<SequenceUpdate> updates = scheduler_.Commit(*std::move(result));
  UpdateSnapshot();
  Publish({.step = step_number, .tokens = step.work.tokens, .step_time = time, .updates = std::move(updates)});
  host_time_ += clock_.Monotonic() - now;
  return absl::OkStatus();
}

// The last updates: everything left is cancelled, or failed by the device's error.
void Engine::Impl::EndAll(const absl::Status& reason) {
  std::vector<Command> commands;
  {
    base::MutexLock lock(mutex_);
    commands.swap(inbox_);
    closed_ = absl::UnavailableError(reason.ok() ? "the engine has stopped" : absl::StrCat("device fault: ", reason.message()));
  }
  for (Command& command : commands) Apply(std::move(command));
  if (reason.ok()) {
    scheduler_.EndAll(FinishReason::kCancelled, "");
  } else {
    scheduler_.EndAll(FinishReason::kError, absl::StrCat("UNAVAILABLE: device fault: ", reason.message()));
  }
  submitted_.clear();
  UpdateSnapshot();
  PublishPending();
}

void Engine::Impl::PublishPending() {
  std::vector<SequenceUpdate> updates = scheduler_.TakeUpdates();
  if (updates.empty()) return;
  UpdateSnapshot();
  Publish({.step = scheduler_.stats().steps, .updates = std::move(updates)});
}

void Engine::Impl::Publish(StepOutput output) {
  output.host_time = host_time_;
  ring_.Push(std::move(output));
}

void Engine::Impl::UpdateSnapshot() {
  EngineStats stats = scheduler_.stats();
  stats.host_time = host_time_;
  const StepWork work = submitted_.empty() ? StepWork{} : submitted_.front().work;
  stats.step_budget = step_time_.Budget(work.tokens, absl::Seconds(limits_.cost.Seconds(work)));
  base::MutexLock lock(mutex_);
  stats_ = stats;
  in_flight_ = !submitted_.empty();
  if (in_flight_) step_begin_ = std::max(submitted_.front().at, last_step_end_);
}

Engine::Engine(const EngineOptions& options, std::unique_ptr<Executor> executor, const base::Clock& clock)
    : impl_(std::make_unique<Impl>(options, std::move(executor), clock)) {}

Engine::~Engine() = default;

void Engine::Start() { impl_->Start(); }
bool Engine::Stop() { return impl_->Stop(); }
absl::Status Engine::Add(SequenceSpec spec) { return impl_->Add(std::move(spec)); }
void Engine::Cancel(SequenceId id) { impl_->Post(CancelCommand{.id = id}); }
void Engine::Finish(SequenceId id, int output_tokens) { impl_->Post(FinishCommand{.id = id, .output_tokens = output_tokens}); }
EngineStats Engine::Stats() const { return impl_->Stats(); }
StepRing& Engine::output() { return impl_->ring(); }
const ExecutorLimits& Engine::limits() const { return impl_->limits(); }
void Engine::OnDeviceFault(absl::AnyInvocable<void(const absl::Status&)> callback) {
  impl_->OnDeviceFault(std::move(callback));
}
bool Engine::StepInFlight(absl::Duration* since, absl::Duration* budget) const { return impl_->StepInFlight(since, budget); }

}  // namespace berth::engine
