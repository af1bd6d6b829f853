#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "kernels/dtype.h"
#include "worker/engine/executor.h"
#include "worker/runtime/model_runner.h"

namespace berth::runtime {

struct CpuExecutorOptions {
  int threads = 1;                      // of the kernels
  int slots = 16;                       // sequences active at once
  size_t kv_bytes = size_t{512} << 20;  // memory of the KV pool, unless kv_blocks is set
  int kv_blocks = 0;
  kernels::DType kv_dtype = kernels::DType::kF32;
  int max_step_tokens = 128;  // bounds the budget that the warm-up finds
  int session_len = 0;        // tokens of one sequence; 0: the model's context length
  absl::Status Validate() const;
};

// A step that fills its token budget takes about this long, so that a worker never looks dead while it computes a prompt.
inline constexpr absl::Duration kStepTarget = absl::Milliseconds(200);

// The executor of a model on this machine's CPU. Runs a warm-up first and lowers the step's token budget to what the machine
// computes within kStepTarget. INVALID_ARGUMENT names the option that does not fit the model; RESOURCE_EXHAUSTED: no memory.
absl::StatusOr<std::unique_ptr<engine::Executor>> MakeCpuExecutor(const RunnerModel& model, const CpuExecutorOptions& options,
                                                                  const base::Clock& clock);

}  // namespace berth::runtime
