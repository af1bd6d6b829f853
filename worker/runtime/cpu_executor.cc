#include "worker/runtime/cpu_executor.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/buffer.h"
#include "kernels/cpu/cpu_ops.h"
#include "worker/engine/step_plan.h"
#include "worker/runtime/device_executor.h"

namespace berth::runtime {
namespace {

// Chunks of whole tiles, and never so few that the fixed cost of a step rules.
constexpr int kTokenStep = 16;
constexpr int kWarmUpTokens = 64;

// What one executor owns; the runner uses the ops to its end.
struct CpuDevice {
  std::unique_ptr<kernels::Ops> ops;
  std::unique_ptr<ModelRunner> runner;
};

absl::StatusOr<engine::ExecutorLimits> FindLimits(const model::DecoderSpec& spec, const CpuExecutorOptions& options) {
  const size_t block_bytes = KvBlockBytes(spec, options.kv_dtype);
  const size_t blocks = options.kv_blocks > 0 ? options.kv_blocks : options.kv_bytes / block_bytes;
  if (blocks == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("kv_bytes ", options.kv_bytes, " is less than one KV block of this model, ", block_bytes, " bytes"));
  }
  BERTH_ASSIGN_OR_RETURN(const int length, SequenceLength(spec, options.session_len));
  const size_t pool_tokens = std::min<size_t>(blocks, INT32_MAX / engine::kBlockTokens) * engine::kBlockTokens;
  return engine::ExecutorLimits{.slots = options.slots,
                                .kv_blocks = static_cast<int>(std::min<size_t>(blocks, INT32_MAX)),
                                .max_step_tokens = std::max(options.max_step_tokens, options.slots),
                                .max_length = static_cast<int>(std::min<size_t>(length, pool_tokens)),
                                .max_depth = 2,
                                .vocab_size = spec.vocab};
}

// A prompt of `tokens` tokens in slot 0, and its retirement.
engine::StepPlan WarmUpPlan(int tokens) {
  engine::StepPlanBuilder plan(0);
  const std::vector<int32_t> prompt(tokens, 0);
  plan.Admit({.slot = 0}, {.prompt_length = tokens}, prompt);
  for (int i = 0; i * engine::kBlockTokens < tokens; ++i) plan.Block({.slot = 0, .index = i, .block = i});
  plan.Row({.slot = 0, .sample = 1}, prompt);
  return plan.Build();
}

absl::StatusOr<engine::StepResult> Run(ModelRunner& runner, const engine::StepPlan& plan) {
  BERTH_RETURN_IF_ERROR(runner.Submit(plan));
  return runner.Await();
}

// The tokens that one step computes within kStepTarget, at most `limit`.
absl::StatusOr<int> MeasureStepTokens(ModelRunner& runner, const engine::ExecutorLimits& limits, const base::Clock& clock) {
  const int tokens = std::min({kWarmUpTokens, limits.max_step_tokens, limits.max_length});
  absl::Duration took;
  // The first run pages the weights in.
  for (int i = 0; i < 2; ++i) {
    const absl::Duration start = clock.Monotonic();
    BERTH_RETURN_IF_ERROR(Run(runner, WarmUpPlan(tokens)).status());
    took = clock.Monotonic() - start;
  }
  engine::StepPlanBuilder retire(0);
  retire.Retire({.slot = 0});
  BERTH_RETURN_IF_ERROR(Run(runner, retire.Build()).status());
  const double fit = tokens * absl::FDivDuration(kStepTarget, std::max(took, absl::Microseconds(1)));
  const int budget = static_cast<int>(std::min<double>(fit, limits.max_step_tokens)) / kTokenStep * kTokenStep;
  return std::clamp(budget, std::min(std::max(limits.slots, kTokenStep), limits.max_step_tokens), limits.max_step_tokens);
}

}  // namespace

absl::Status CpuExecutorOptions::Validate() const {
  if (threads < 1) return absl::InvalidArgumentError(absl::StrCat("threads ", threads, ", want at least 1"));
  if (slots < 1) return absl::InvalidArgumentError(absl::StrCat("slots ", slots, ", want at least 1"));
  if (kv_blocks < 0) return absl::InvalidArgumentError(absl::StrCat("kv_blocks ", kv_blocks, ", want at least 0"));
  if (max_step_tokens < 1)
    return absl::InvalidArgumentError(absl::StrCat("max_step_tokens ", max_step_tokens, ", want at least 1"));
  if (session_len < 0) return absl::InvalidArgumentError(absl::StrCat("session_len ", session_len, ", want at least 0"));
  if (kv_dtype != kernels::DType::kF32 && kv_dtype != kernels::DType::kF16 && kv_dtype != kernels::DType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("kv_dtype ", std::string(kernels::Info(kv_dtype).name), ", want f32, f16 or bf16"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<engine::Executor>> MakeCpuExecutor(const RunnerModel& model, const CpuExecutorOptions& options,
                                                                  const base::Clock& clock) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  BERTH_ASSIGN_OR_RETURN(engine::ExecutorLimits limits, FindLimits(model.spec, options));
  CpuDevice device;
  device.ops = kernels::MakeCpuOps({.threads = options.threads});
  const RunnerOptions runner_options{.slots = limits.slots,
                                     .kv_dtype = options.kv_dtype,
                                     .max_step_tokens = limits.max_step_tokens,
                                     .max_length = limits.max_length};
  const RunnerMemory memory{.device = kernels::HostAllocator(), .staging = kernels::HostAllocator()};
  BERTH_ASSIGN_OR_RETURN(device.runner, ModelRunner::Create(model, runner_options, *device.ops, memory));
  BERTH_RETURN_IF_ERROR(device.runner->ReserveKv(limits.kv_blocks, memory.device));
  BERTH_ASSIGN_OR_RETURN(limits.max_step_tokens, MeasureStepTokens(*device.runner, limits, clock));
  return std::make_unique<DeviceExecutor>(
      limits, [device = std::move(device)](const engine::StepPlan& plan) { return Run(*device.runner, plan); });
}

}  // namespace berth::runtime
