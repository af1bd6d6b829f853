// What the host does for a decode step: host_bench. "Plan" plans it and takes the results of the one before, "Fill" makes its
// tensors, both over and over; "Step" is all the engine's thread does for one of 3 ms, device calls aside, median. The argument
// is the number of sequences, of 512 to 767 tokens each.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/clock.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/bench/any_result.h"
#include "worker/engine/engine.h"
#include "worker/engine/scheduler.h"
#include "worker/runtime/batch_tensors.h"

namespace berth {
namespace {

using engine::RowRecord, engine::Scheduler, engine::StepPlan, engine::StepResult;

constexpr int kPrompt = 512, kSteps = 256, kMost = 256;
constexpr runtime::SlotTableShape kSlots = {.slots = kMost, .max_length = 8704};

std::unique_ptr<runtime::BatchTensors> MakeBatch(const runtime::SlotTable& slots, kernels::Ops& ops, int areas) {
  return *runtime::BatchTensors::Create(
      slots, {.max_step_tokens = kMost * kPrompt, .vocab = 1000, .tokenizer_size = 1000, .areas = areas}, ops,
      {.device = kernels::HostAllocator(), .staging = kernels::HostAllocator()});
}

// Sequences that decode, one step in flight.
class Decode {
 public:
  explicit Decode(int sequences)
      : scheduler_({.slots = kMost, .kv_blocks = kMost * 16, .step_tokens = kMost * kPrompt, .prefix_cache = false}) {
    for (int i = 0; i < sequences; ++i) {
      scheduler_.Add({.id = static_cast<engine::SequenceId>(i + 1),
                      .tokens = std::vector<int32_t>(kPrompt, i),
                      .prompt_length = kPrompt,
                      .max_tokens = kSteps + 2});
    }
    flying_ = scheduler_.Plan(absl::ZeroDuration());
  }

  const StepPlan& plan() const { return flying_; }

  std::chrono::duration<double> Step() {
    StepResult result = bench::AnyResult(flying_);
    const auto begin = std::chrono::steady_clock::now();
    flying_ = scheduler_.Plan(absl::ZeroDuration());
    benchmark::DoNotOptimize(scheduler_.Commit(std::move(result)));
    return std::chrono::steady_clock::now() - begin;
  }

 private:
  Scheduler scheduler_;
  StepPlan flying_;
};

void BM_Plan(benchmark::State& state) {
  std::unique_ptr<Decode> decode;
  int step = kSteps;
  for (auto _ : state) {
    if (step++ == kSteps) {
      decode = std::make_unique<Decode>(static_cast<int>(state.range(0)));
      step = 1;
    }
    state.SetIterationTime(decode->Step().count());
  }
}
BENCHMARK(BM_Plan)->Arg(1)->Arg(64)->Arg(256)->UseManualTime();

void BM_Fill(benchmark::State& state) {
  const int sequences = static_cast<int>(state.range(0));
  Decode decode(sequences);
  runtime::SlotTable slots(kSlots);
  const auto ops = kernels::MakeCpuOps({});
  const auto batch = MakeBatch(slots, *ops, /*areas=*/1);
  slots.Apply(decode.plan());
  decode.Step();
  for (auto _ : state) {
    slots.Apply(decode.plan());
    benchmark::DoNotOptimize(batch->Fill(decode.plan(), {}));
  }
}
BENCHMARK(BM_Fill)->Arg(1)->Arg(64)->Arg(256);

// Makes the tensors of steps, which then take 3 ms of nobody's time; waits for them as CUDA does, on its feet.
class IdleDevice : public engine::Executor {
 public:
  engine::ExecutorLimits limits() const override {
    return {.slots = kMost,
            .kv_blocks = kMost * 16,
            .max_step_tokens = kMost * kPrompt,
            .max_length = kSlots.max_length,
            .max_depth = 2};
  }
  void Submit(StepPlan plan) override {
    slots_.Apply(plan);
    benchmark::DoNotOptimize(batch_->Fill(plan, {.area = static_cast<int>(plan.step() % 2)}));
    end_ = std::max(end_, absl::Now()) + absl::Milliseconds(3);
    flying_.push_back({std::move(plan), end_});
  }
  absl::StatusOr<StepResult> Await() override {
    while (absl::Now() < flying_.front().end) {
    }
    const StepPlan plan = std::move(flying_.front().plan);
    flying_.pop_front();
    return bench::AnyResult(plan);
  }

 private:
  struct Flying {
    StepPlan plan;
    absl::Time end;
  };

  runtime::SlotTable slots_{kSlots};
  const std::unique_ptr<kernels::Ops> ops_ = kernels::MakeCpuOps({});
  const std::unique_ptr<runtime::BatchTensors> batch_ = MakeBatch(slots_, *ops_, /*areas=*/2);
  absl::Time end_ = absl::InfinitePast();
  std::deque<Flying> flying_;
};

void BM_Step(benchmark::State& state) {
  std::vector<double> times;
  for (auto _ : state) {
    engine::Engine engine({.depth = 2, .prefix_cache = false}, std::make_unique<IdleDevice>(), base::SystemClock());
    for (int i = 0; i < state.range(0); ++i) {
      engine::SequenceSpec spec{.id = static_cast<engine::SequenceId>(i + 1),
                                .tokens = std::vector<int32_t>(kPrompt, i),
                                .prompt_length = kPrompt,
                                .max_tokens = kSteps};
      if (!engine.Add(std::move(spec)).ok()) return state.SkipWithError("refused");
    }
    engine.Start();
    absl::Duration before;
    std::vector<engine::StepOutput> outputs;
    for (uint64_t step = 0; step < kSteps;) {
      engine.output().Pop(&outputs);
      for (const engine::StepOutput& output : outputs) {
        step = output.step;
        if (step > 5 && step < kSteps) times.push_back(absl::ToDoubleSeconds(output.host_time - before));
        before = output.host_time;
      }
    }
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  state.counters["median"] = times[times.size() / 2];
}
BENCHMARK(BM_Step)->Arg(1)->Arg(64)->Arg(256)->Iterations(3)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace berth

BENCHMARK_MAIN();
