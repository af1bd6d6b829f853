#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "kernels/cpu/cpu_ops.h"
#include "worker/engine/engine.h"
#include "worker/runtime/cpu_executor.h"
#include "worker/runtime/queued_executor.h"

namespace berth::runtime {

struct Output {
  std::vector<int32_t> tokens;
  std::vector<engine::TokenLogprobs> logprobs;
  engine::FinishReason finish = engine::FinishReason::kNone;
  int cached_tokens = 0;
  std::vector<engine::TokenLogprobs> prompt_logprobs;
  std::vector<float> hidden_sum;
};

struct RunnerConfig {
  CpuExecutorOptions executor = {.slots = 16, .kv_blocks = 64};
  engine::EngineOptions engine;
  bool queued = false;  // as a GPU is driven: plans are queued ahead, decode steps are recorded and padded
};

// The CPU's kernels behind the executor of devices that compute by themselves.
inline absl::StatusOr<std::unique_ptr<engine::Executor>> MakeQueuedCpuExecutor(const RunnerModel& model,
                                                                               const CpuExecutorOptions& options) {
  const engine::ExecutorLimits limits{.slots = options.slots,
                                      .kv_blocks = options.kv_blocks,
                                      .max_step_tokens = options.max_step_tokens,
                                      .max_length = model.spec.max_position,
                                      .max_depth = 2,
                                      .vocab_size = model.spec.vocab};
  RunnerDevice device;
  // Rows of padding all write their keys to one place: a device's threads may do that, a CPU's may not.
  device.ops = kernels::MakeCpuOps({.threads = 1});
  BERTH_ASSIGN_OR_RETURN(device.runner, ModelRunner::Create(model,
                                                            {.slots = limits.slots,
                                                             .max_step_tokens = limits.max_step_tokens,
                                                             .max_length = limits.max_length,
                                                             .depth = limits.max_depth},
                                                            *device.ops, {kernels::HostAllocator(), kernels::HostAllocator()}));
  BERTH_RETURN_IF_ERROR(device.runner->ReserveKv(limits.kv_blocks, kernels::HostAllocator()));
  BERTH_RETURN_IF_ERROR(device.runner->RecordDecodeSteps());
  return std::make_unique<QueuedExecutor>(limits, std::move(device));
}

// The engine with an executor.
class EngineRunner {
 public:
  explicit EngineRunner(const RunnerModel& model, const RunnerConfig& config = {})
      : EngineRunner(config.queued ? MakeQueuedCpuExecutor(model, config.executor)
                                   : MakeCpuExecutor(model, config.executor, base::SystemClock()),
                     config.engine) {}
  EngineRunner(absl::StatusOr<std::unique_ptr<engine::Executor>> executor, const engine::EngineOptions& options) {
    EXPECT_TRUE(executor.ok()) << executor.status();
    engine_ = std::make_unique<engine::Engine>(options, *std::move(executor), base::SystemClock());
  }

  // Runs the sequences together to their ends. The first time the engine starts when it has them all, so that its batches are
  // the same every time.
  std::map<engine::SequenceId, Output> Run(const std::vector<engine::SequenceSpec>& specs) {
    std::map<engine::SequenceId, Output> outputs;
    size_t unfinished = specs.size();
    for (const engine::SequenceSpec& spec : specs) EXPECT_TRUE(engine_->Add(spec).ok());
    if (!std::exchange(started_, true)) engine_->Start();
    std::vector<engine::StepOutput> steps;
    while (unfinished > 0 && engine_->output().Pop(&steps)) {
      for (const engine::StepOutput& step : steps) {
        for (const engine::SequenceUpdate& update : step.updates) unfinished -= Apply(update, outputs[update.id]);
      }
      steps.clear();
    }
    return outputs;
  }

  engine::EngineStats stats() const { return engine_->Stats(); }

 private:
  static bool Apply(const engine::SequenceUpdate& update, Output& output) {
    if (update.started) output.cached_tokens = update.cached_tokens;
    output.tokens.insert(output.tokens.end(), update.tokens.begin(), update.tokens.end());
    output.logprobs.insert(output.logprobs.end(), update.details().logprobs.begin(), update.details().logprobs.end());
    output.prompt_logprobs.insert(output.prompt_logprobs.end(), update.details().prompt_logprobs.begin(),
                                  update.details().prompt_logprobs.end());
    if (!update.details().hidden_sum.empty()) output.hidden_sum = update.details().hidden_sum;
    output.finish = update.finish;
    return update.finish != engine::FinishReason::kNone;
  }

  std::unique_ptr<engine::Engine> engine_;
  bool started_ = false;
};

}  // namespace berth::runtime
