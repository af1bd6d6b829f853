#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "worker/engine/engine.h"
#include "worker/runtime/cpu_executor.h"

namespace berth::runtime {

struct Output {
  std::vector<int32_t> tokens;
  std::vector<engine::TokenLogprobs> logprobs;
  engine::FinishReason finish = engine::FinishReason::kNone;
  int cached_tokens = 0;
};

struct RunnerConfig {
  CpuExecutorOptions executor = {.slots = 16, .kv_blocks = 64};
  engine::EngineOptions engine;
};

// The engine with the CPU executor.
class EngineRunner {
 public:
  explicit EngineRunner(const RunnerModel& model, const RunnerConfig& config = {}) {
    auto executor = MakeCpuExecutor(model, config.executor, base::SystemClock());
    EXPECT_TRUE(executor.ok()) << executor.status();
    engine_ = std::make_unique<engine::Engine>(config.engine, *std::move(executor), base::SystemClock());
    engine_->Start();
  }

  // Runs the sequences together to their ends.
  std::map<engine::SequenceId, Output> Run(const std::vector<engine::SequenceSpec>& specs) {
    std::map<engine::SequenceId, Output> outputs;
    size_t unfinished = specs.size();
    for (const engine::SequenceSpec& spec : specs) EXPECT_TRUE(engine_->Add(spec).ok());
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
    output.logprobs.insert(output.logprobs.end(), update.logprobs.begin(), update.logprobs.end());
    output.finish = update.finish;
    return update.finish != engine::FinishReason::kNone;
  }

  std::unique_ptr<engine::Engine> engine_;
};

}  // namespace berth::runtime
