#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/sequence.h"
#include "worker/engine/step_cost.h"
#include "worker/engine/step_plan.h"

namespace berth::engine {

struct RowResult {
  int32_t slot = 0;
  uint32_t generation = 0;
  int32_t token = 0;  // -1: the row's logits held a NaN or allowed no token; the sequence fails, others go on
  TokenLogprobs logprobs;
};

struct PoolResult {
  int32_t slot = 0;
  uint32_t generation = 0;
  std::vector<float> sum;
};

struct ScoreResult {
  int32_t slot = 0;
  uint32_t generation = 0;
  std::vector<TokenLogprobs> logprobs;  // not a number: the position's logits held a NaN
};

struct StepResult {
  uint64_t step = 0;
  std::vector<RowResult> rows;      // one per row with sample = 1, in plan order
  std::vector<PoolResult> pools;    // one per row that is the last of a pooled sequence, in plan order
  std::vector<ScoreResult> scores;  // one per row with score > 0, in plan order
};

// What the device side offers, fixed at start.
struct ExecutorLimits {
  int slots = 0;            // sequences that can be active
  int kv_blocks = 0;        // ids 0 … kv_blocks - 1
  int max_step_tokens = 0;  // rows' tokens in one plan
  int max_length = 0;       // tokens of one sequence
  int max_depth = 1;        // plans that may be in flight
  int vocab_size = 0;       // token ids 0 … vocab_size - 1; 0: any
  StepCost cost;            // of its steps, if it is known
};

// Runs plans in the order they were submitted. Thread: the engine thread.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual ExecutorLimits limits() const = 0;
  // Returns at once. At most limits().max_depth plans may be awaited.
  virtual void Submit(StepPlan plan) = 0;
  // Blocks until the oldest submitted plan is done. An error is a device fault: nothing of the plan counts and the engine ends.
  virtual absl::StatusOr<StepResult> Await() = 0;
};

}  // namespace berth::engine
