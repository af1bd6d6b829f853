#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/executor.h"
#include "worker/engine/step_plan.h"
#include "worker/runtime/sim_token.h"

namespace berth::runtime {

struct SimDeviceOptions {
  engine::ExecutorLimits limits = {.slots = 64, .kv_blocks = 4096, .max_step_tokens = 512, .max_length = 8192, .max_depth = 2};
  SimVocabulary vocabulary;
  int32_t nan_token = -1;  // sequences that hold this token draw a NaN
  bool strict = false;     // check the whole context of every row, not only its end
};

// The device side of the simulated model, run step by step. It keeps per slot what a real device keeps and a KV cache with one
// word per position, reads what it computes from that cache, and checks every record of a plan against it: a plan that a real
// device would compute wrongly is an INTERNAL error. Thread: one at a time.
class SimDevice {
 public:
  explicit SimDevice(const SimDeviceOptions& options);
  const engine::ExecutorLimits& limits() const { return options_.limits; }
  absl::StatusOr<engine::StepResult> Run(const engine::StepPlan& plan);

 private:
  struct Slot {
    bool active = false;
    uint32_t generation = 0;
    std::vector<int32_t> history;
    std::vector<uint64_t> states;  // after each token of history
    std::vector<int32_t> blocks;
    int next = -1;  // position of the next row; -1: none came yet
    bool drawn = false;
    bool poisoned = false;
    std::vector<float> hidden_sum;
    SimDrawRules rules;
    std::optional<SimScript> script;
  };

  absl::Status Retire(const engine::RetireRecord& record);
  absl::Status Admit(const engine::StepPlan& plan, const engine::AdmitRecord& record);
  absl::Status Append(const engine::BlockRecord& record);
  absl::Status CheckRow(const engine::StepPlan& plan, const engine::RowRecord& row) const;
  absl::Status CheckContext(const Slot& slot, const engine::RowRecord& row) const;
  engine::RowResult RunRow(const engine::RowRecord& row, absl::Span<const uint32_t> mask);
  engine::ScoreResult Score(const engine::RowRecord& row) const;
  int32_t Draw(const Slot& slot, uint64_t state, int position, engine::TokenLogprobs* logprobs) const;
  void Push(Slot& slot, int32_t token) const;
  const uint64_t& Kv(const Slot& slot, int position) const;

  const SimDeviceOptions options_;
  std::vector<Slot> slots_;
  std::vector<int> holders_;  // per block: slots whose table has it
  std::vector<uint64_t> kv_;  // [block][token]
  uint64_t step_ = 0;
};

}  // namespace berth::runtime
