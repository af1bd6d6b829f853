#pragma once

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "worker/engine/executor.h"
#include "worker/model/decoder.h"
#include "worker/runtime/batch_tensors.h"
#include "worker/runtime/kv_cache.h"
#include "worker/runtime/slot_table.h"

namespace berth::runtime {

// What a runner runs; all of it outlives the runner.
struct RunnerModel {
  const model::DecoderSpec& spec;
  const model::DecoderWeights& weights;
  int tokenizer_size = 0;  // ids from here on are never drawn
};

struct RunnerOptions {
  int slots = 0;
  int kv_blocks = 0;
  kernels::DType kv_dtype = kernels::DType::kF32;
  int max_step_tokens = 0;
  int max_length = 0;
};

// Runs one plan at a time: slot deltas → batch → decoder → sampling → results. Owns the KV cache and everything else that lives
// beside the weights. Thread: the executor's.
class ModelRunner {
 public:
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(const RunnerModel& model, const RunnerOptions& options,
                                                             kernels::Ops& ops, kernels::Allocator& allocator);
  // An error is a device fault.
  absl::StatusOr<engine::StepResult> Run(const engine::StepPlan& plan);

  KvCache& kv_cache() { return *kv_cache_; }

 private:
  explicit ModelRunner(kernels::Ops& ops) : ops_(ops) {}
  engine::StepResult Collect(const engine::StepPlan& plan, const kernels::SampleArgs& sampled);

  kernels::Ops& ops_;
  std::optional<KvCache> kv_cache_;
  std::unique_ptr<SlotTable> slots_;
  std::unique_ptr<BatchTensors> batch_;
  std::unique_ptr<model::Decoder> decoder_;
};

}  // namespace berth::runtime
