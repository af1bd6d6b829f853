#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
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
  kernels::DType dtype = kernels::DType::kF32;  // of the activations
  kernels::DType kv_dtype = kernels::DType::kF32;
  int max_step_tokens = 0;
  int max_length = 0;
  int depth = 1;             // plans in flight, at most Ops::kMarks
  bool last_queries = true;  // as in model::DecoderOptions
};

// `session_len`, or the model's context length for 0. INVALID_ARGUMENT: more than that.
absl::StatusOr<int> SequenceLength(const model::DecoderSpec& spec, int session_len);

// Runs plans: slot deltas → batch → decoder → sampling → results. Plans are queued on the ops one after the other: a row's last
// token never leaves the device, so the next plan need not wait for the result of the one before. Owns the KV cache and
// everything else that lives beside the weights. Thread: the executor's.
class ModelRunner {
 public:
  // Reserves everything but the KV cache, so that it can be given what is left.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(const RunnerModel& model, const RunnerOptions& options,
                                                             kernels::Ops& ops, const RunnerMemory& memory);
  // Once, before the first plan. One block more is reserved for padding.
  absl::Status ReserveKv(int blocks, kernels::Allocator& allocator);
  // Records the step in which every one of so many sequences decodes, for growing numbers up to the slots, and once more where
  // all of many are greedy. From then on such a step replays the next larger recording, filled up with padding, unless a row
  // needs logit edits or alternatives.
  absl::Status RecordDecodeSteps();

  // Queues a plan; at most `depth` may be unawaited. An error is a device fault. Waits for the plans before it when a row's
  // edits depend on the token that one of them draws.
  absl::Status Submit(const engine::StepPlan& plan);
  // The result of the oldest plan. An error is a device fault.
  absl::StatusOr<engine::StepResult> Await();

  KvCache& kv_cache() { return *kv_cache_; }
  // Of the rows that the last queued plan samples, in its order: f32 [slots, vocab] on the device, as sampling leaves them,
  // unless it scores positions too or many rows are all greedy.
  const kernels::Tensor& logits() const { return batch_->logits(); }

 private:
  struct Sample {
    int32_t slot = 0;
    uint32_t generation = 0;
    int32_t logprobs = -1;  // alternatives to report
  };
  struct Scored {
    int32_t slot = 0;
    uint32_t generation = 0;
    int32_t count = 0;
    int32_t logprobs = -1;  // as of Sample
  };
  struct Pooled {
    int32_t slot = 0;
    uint32_t generation = 0;
  };
  // A plan that has been queued.
  struct Flight {
    uint64_t step = 0;
    int area = 0;
    std::vector<Sample> samples;
    kernels::SampleArgs drawn;
    std::vector<Scored> scores;
    kernels::SampleArgs scored;
    std::vector<Pooled> pools;
    kernels::Tensor pooled;
  };

  ModelRunner(const RunnerModel& model, const RunnerOptions& options, kernels::Ops& ops)
      : slots_({.slots = options.slots, .max_length = options.max_length}), model_(model), options_(options), ops_(ops) {}

  bool NeedsTokensInFlight(const engine::StepPlan& plan) const;
  struct Recording {
    int any = 0, greedy = 0;
  };

  // Whether a mask or edits may change the logits that the row's last position has.
  bool MayEditLogits(const engine::RowRecord& row) const;
  // The entries of the recording that can stand for this plan; 0: none can.
  int RecordedEntries(const engine::StepPlan& plan) const;
  // Whether nothing is read of the plan's logits but the highest of each row.
  bool IsGreedy(const engine::StepPlan& plan) const;
  void Queue(const StepTensors& step, std::optional<int> recording);
  void Compute(const StepTensors& step);
  absl::StatusOr<engine::StepResult> Collect();

  SlotTable slots_;
  const RunnerModel model_;
  const RunnerOptions options_;
  kernels::Ops& ops_;
  std::unique_ptr<BatchTensors> batch_;
  std::unique_ptr<model::Decoder> decoder_;
  std::optional<KvCache> kv_cache_;
  std::map<int, Recording> recordings_;  // of so many entries
  std::deque<Flight> flights_;
  std::deque<engine::StepResult> results_;  // of plans that ended and are not awaited yet
  int next_area_ = 0;
};

}  // namespace berth::runtime
