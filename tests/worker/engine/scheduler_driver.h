#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_executor.h"
#include "worker/engine/scheduler.h"
#include "worker/runtime/sim_token.h"

namespace berth::engine {

// A scheduler over the strict simulated device, stepped by hand; keeps what the updates say.
class SchedulerDriver {
 public:
  struct Output {
    std::vector<int32_t> tokens;
    std::vector<float> prompt_logprobs;
    bool started = false;
    int cached_tokens = 0;
    FinishReason finish = FinishReason::kNone;
    std::string error;
  };

  static constexpr runtime::SimVocabulary kVocabulary = {.begin = 1000, .end = 2000};
  static constexpr int32_t kNanToken = 3;

  explicit SchedulerDriver(const SchedulerOptions& options, runtime::SimVocabulary vocabulary = kVocabulary)
      : executor_({.limits = {.slots = options.slots,
                              .kv_blocks = options.kv_blocks,
                              .max_step_tokens = options.step_tokens,
                              .max_length = options.kv_blocks * kBlockTokens,
                              .max_depth = 2},
                   .vocabulary = vocabulary,
                   .nan_token = kNanToken,
                   .strict = true}),
        scheduler_(options) {}

  // The tokens of a prompt depend on `text` alone.
  static SequenceSpec Spec(SequenceId id, int prompt, int max_tokens, int text = 0) {
    SequenceSpec spec{.id = id, .prompt_length = prompt, .max_tokens = max_tokens};
    for (int i = 0; i < prompt; ++i) spec.tokens.push_back(10 + (text * 7919 + i * 31) % 900);
    return spec;
  }

  void Add(SequenceSpec spec) { scheduler_.Add(std::move(spec)); }

  // Plans one step and leaves it in flight; the plan may be empty.
  StepPlan Submit(absl::Duration now = absl::ZeroDuration()) {
    StepPlan plan = scheduler_.Plan(now);
    if (!plan.empty()) executor_.Submit(plan);
    Check();
    return plan;
  }
  void Commit() {
    const auto result = executor_.Await();
    ASSERT_TRUE(result.ok()) << result.status();
    Take(scheduler_.Commit(*result));
    Check();
  }
  // One whole step; false when there is nothing to compute.
  bool Step() {
    const bool any = !Submit().empty();
    if (any) Commit();
    Take(scheduler_.TakeUpdates());
    return any;
  }
  void Drain() {
    while (Step()) {
    }
  }
  void TakeUpdates() { Take(scheduler_.TakeUpdates()); }

  // Tokens that `plan` computes of a slot; 0: none.
  static int RowTokens(const StepPlan& plan, int slot) {
    for (const RowRecord& row : plan.rows()) {
      if (row.slot == slot) return row.count;
    }
    return 0;
  }

  Scheduler& scheduler() { return scheduler_; }
  Output& output(SequenceId id) { return outputs_[id]; }

 private:
  void Check() {
    const absl::Status status = scheduler_.CheckInvariants();
    ASSERT_TRUE(status.ok()) << status;
  }
  void Take(const std::vector<SequenceUpdate>& updates) {
    for (const SequenceUpdate& update : updates) {
      Output& output = outputs_[update.id];
      if (update.started) output.cached_tokens = update.cached_tokens;
      output.started |= update.started;
      output.tokens.insert(output.tokens.end(), update.tokens.begin(), update.tokens.end());
      for (const TokenLogprobs& score : update.details().prompt_logprobs) output.prompt_logprobs.push_back(score.logprob);
      output.finish = update.finish;
      output.error = update.details().error;
      if (update.finish != FinishReason::kNone) output.tokens.resize(update.output_tokens);
    }
  }

  testing::FakeExecutor executor_;
  Scheduler scheduler_;
  std::map<SequenceId, Output> outputs_;
};

}  // namespace berth::engine
