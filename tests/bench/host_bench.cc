// What the host does for a decode step: host_bench. "Plan" plans it and takes the results of the one before, "Fill" makes its
// tensors. The argument is the number of sequences, of 512 to 767 tokens each.

#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "worker/engine/scheduler.h"
#include "worker/runtime/batch_tensors.h"

namespace berth {
namespace {

using engine::RowRecord, engine::Scheduler, engine::StepPlan, engine::StepResult;

constexpr int kPrompt = 512, kSteps = 256, kMost = 256;

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
    StepResult result{.step = flying_.step()};
    for (const RowRecord& row : flying_.rows())
      result.rows.push_back({.slot = row.slot, .generation = row.generation, .token = 7});
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
  runtime::SlotTable slots({.slots = kMost, .max_length = 8704});
  const auto ops = kernels::MakeCpuOps({});
  const auto batch = *runtime::BatchTensors::Create(
      slots, {.max_step_tokens = kMost * kPrompt, .vocab = 1000, .tokenizer_size = 1000, .areas = 1}, *ops,
      {.device = kernels::HostAllocator(), .staging = kernels::HostAllocator()});
  slots.Apply(decode.plan());
  decode.Step();
  for (auto _ : state) {
    slots.Apply(decode.plan());
    benchmark::DoNotOptimize(batch->Fill(decode.plan(), {}));
  }
}
BENCHMARK(BM_Fill)->Arg(1)->Arg(64)->Arg(256);

}  // namespace
}  // namespace berth

BENCHMARK_MAIN();
