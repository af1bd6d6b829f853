#include "clients/cli/bench_driver.h"

#include <thread>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/status.h"
#include "clients/cli/bench_loads.h"
#include "clients/cli/bench_metrics.h"

namespace berth::cli {
namespace {

constexpr int kFirstOrdinaryId = 3;

}  // namespace

// Hands the requests of one run to the engine and notes when.
class EngineDriver::Submitter {
 public:
  Submitter(engine::Engine& engine, const base::Clock& clock, std::vector<engine::SequenceSpec> specs, RunTimes& times)
      : engine_(engine), clock_(clock), specs_(std::move(specs)), times_(times), start_(clock.Monotonic()) {}

  double Now() const { return absl::ToDoubleSeconds(clock_.Monotonic() - start_); }
  engine::SequenceId first_id() const { return first_id_; }

  // The next `count` requests, as far as there are so many.
  absl::Status Submit(size_t count) {
    for (; count > 0 && next_ < specs_.size(); --count) BERTH_RETURN_IF_ERROR(Add(Now()));
    return absl::OkStatus();
  }

  // All of them, each at its arrival; ends early when told to.
  absl::Status SubmitAtArrivals(const std::vector<BenchRequest>& requests, const base::Notification& stop) {
    for (const BenchRequest& request : requests) {
      const double wait = request.arrival - Now();
      if (wait > 0 ? stop.WaitFor(absl::Seconds(wait)) : stop.HasBeenNotified()) break;
      BERTH_RETURN_IF_ERROR(Add(request.arrival));
    }
    return absl::OkStatus();
  }

 private:
  // The next one, whose times count from `time`.
  absl::Status Add(double time) {
    times_.requests[next_].added = time;
    return engine_.Add(std::move(specs_[next_++]));
  }

  engine::Engine& engine_;
  const base::Clock& clock_;
  std::vector<engine::SequenceSpec> specs_;
  RunTimes& times_;
  const absl::Duration start_;
  const engine::SequenceId first_id_ = specs_.empty() ? 0 : specs_.front().id;
  size_t next_ = 0;
};

EngineDriver::EngineDriver(std::unique_ptr<engine::Executor> executor, int depth, int vocab, BenchProgress& progress,
                           const base::Clock& clock)
    : vocab_(vocab),
      progress_(progress),
      clock_(clock),
      engine_({.depth = depth, .prefix_cache = false}, std::move(executor), clock) {
  engine_.Start();
}

absl::Status EngineDriver::Collect(Submitter& submitter, bool refill, RunTimes& times) {
  std::vector<engine::StepOutput> steps;
  for (size_t unfinished = times.requests.size(); unfinished > 0; steps.clear()) {
    if (!engine_.output().Pop(&steps)) return absl::InternalError("the engine ended in the middle of a run");
    const double now = submitter.Now();
    int tokens = 0;
    size_t finished = 0;
    for (const engine::StepOutput& step : steps) {
      if (step.step_time > absl::ZeroDuration()) {
        times.host_steps.push_back(absl::ToDoubleSeconds(step.host_time - host_time_));
      }
      host_time_ = step.host_time;
      for (const engine::SequenceUpdate& update : step.updates) {
        RequestTimes& request = times.requests[update.id - submitter.first_id()];
        if (!update.tokens.empty()) {
          NoteOutput(now, request, times.gaps);
          request.tokens += static_cast<int>(update.tokens.size());
          tokens += static_cast<int>(update.tokens.size());
        }
        if (update.finish == engine::FinishReason::kNone) continue;
        if (update.finish != engine::FinishReason::kLength)
          return absl::InternalError("a request failed: " + update.details().error);
        ++finished;
      }
    }
    if (tokens > 0) times.tokens.emplace_back(now, tokens);
    times.end = now;
    unfinished -= finished;
    progress_.Ended(finished);
    if (refill) BERTH_RETURN_IF_ERROR(submitter.Submit(finished));
  }
  return absl::OkStatus();
}

absl::StatusOr<RunTimes> EngineDriver::Run(const std::vector<BenchRequest>& requests, int in_flight) {
  std::vector<engine::SequenceSpec> specs;
  for (const BenchRequest& request : requests) {
    engine::SequenceSpec& spec = specs.emplace_back(engine::SequenceSpec{
        .id = next_id_++, .prompt_length = request.prompt, .max_tokens = request.output, .sampling = {.temperature = 0}});
    for (int i = 0; i < request.prompt; ++i) {
      spec.tokens.push_back(static_cast<int32_t>(kFirstOrdinaryId + random_() % (vocab_ - kFirstOrdinaryId)));
    }
  }
  RunTimes times;
  times.requests.resize(requests.size());
  Submitter submitter(engine_, clock_, std::move(specs), times);
  if (HaveArrivals(requests)) {
    BERTH_RETURN_IF_ERROR(RunAtArrivals(requests, submitter, times));
  } else {
    BERTH_RETURN_IF_ERROR(submitter.Submit(in_flight > 0 ? in_flight : requests.size()));
    BERTH_RETURN_IF_ERROR(Collect(submitter, /*refill=*/true, times));
  }
  BERTH_RETURN_IF_ERROR(CheckOutputs(requests, times));
  return times;
}

absl::Status EngineDriver::RunAtArrivals(const std::vector<BenchRequest>& requests, Submitter& submitter, RunTimes& times) {
  base::Notification stop;
  absl::Status submitted;
  std::thread thread([&] {
    submitted = submitter.SubmitAtArrivals(requests, stop);
    if (!submitted.ok()) engine_.Stop();  // so that nobody waits for what will not come
  });
  const absl::Status collected = Collect(submitter, /*refill=*/false, times);
  stop.Notify();
  thread.join();
  BERTH_RETURN_IF_ERROR(submitted);
  return collected;
}

}  // namespace berth::cli
