#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "worker/engine/step_plan.h"

namespace berth::runtime {

struct SlotTableShape {
  int slots = 0;
  int vocab = 0;
  int max_length = 0;  // tokens of one sequence
};

// Additions to a row's logits, -infinity bans: the CSR that SampleArgs takes. `start` has one entry more than rows.
struct LogitEdits {
  std::vector<int32_t> start;
  std::vector<int32_t> token;
  std::vector<float> value;

  void Clear();
};

// What the device side holds per slot between steps: block table, last sampled token, sampling parameters, penalty counts, and
// what bans and biases its logits. Plans change it by deltas. The allocator's memory can be written by the host.
// Thread: the executor's.
class SlotTable {
 public:
  static absl::StatusOr<std::unique_ptr<SlotTable>> Create(const SlotTableShape& shape, kernels::Allocator& allocator);

  // Retires, admits and blocks of the plan, in this order.
  void Apply(const engine::StepPlan& plan);
  // The slot sampled `token`, or failed with -1.
  void Sampled(int slot, int32_t token);

  const SlotTableShape& shape() const { return shape_; }
  int max_blocks() const { return max_blocks_; }
  int32_t last_token(int slot) const { return slots_[slot].last_token; }
  const engine::Sampling& sampling(int slot) const { return slots_[slot].sampling; }
  // Blocks of positions 0 … length - 1.
  absl::Span<const int32_t> blocks(int slot, int length) const;
  // Closes one row of edits for the token that `slot` draws at `position`: biases, then stop tokens banned before the least
  // length, then last tokens of bad words whose other tokens end the history.
  void AppendEdits(int slot, int position, LogitEdits& edits) const;

  const kernels::Tensor& params() const { return params_; }  // u8 [slots, sizeof(SlotSampling)]
  const kernels::Tensor& counts() const { return counts_; }  // u32 [slots, vocab]

 private:
  struct Slot {
    int32_t last_token = 0;
    int32_t min_length = 0;
    engine::Sampling sampling;
    std::vector<int32_t> history;  // prompt and output, up to the last sampled token
    std::vector<int32_t> stop_tokens;
    std::vector<engine::BiasRecord> biases;
    std::vector<int32_t> bad_words;  // {length, tokens …} each
    std::vector<int32_t> blocks;     // max_blocks entries
  };

  explicit SlotTable(const SlotTableShape& shape);
  Slot& at(int slot);
  void Admit(const engine::StepPlan& plan, const engine::AdmitRecord& admit);

  const SlotTableShape shape_;
  const int max_blocks_;
  std::vector<Slot> slots_;
  kernels::Buffer buffer_;
  kernels::Tensor params_, counts_;
};

}  // namespace berth::runtime
