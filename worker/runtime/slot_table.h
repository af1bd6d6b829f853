#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/check.h"
#include "worker/engine/step_plan.h"

namespace berth::runtime {

struct SlotTableShape {
  int slots = 0;
  int max_length = 0;  // tokens of one sequence
};

// Additions to a row's logits, -infinity bans: the CSR that SampleArgs takes. `start` has one entry more than rows.
struct LogitEdits {
  std::vector<int32_t> start;
  std::vector<int32_t> token;
  std::vector<float> value;

  void Clear();
};

// What the host keeps per slot between steps: block table, sampling parameters, and what bans and biases its logits. Plans
// change it by deltas. What the kernels keep per slot is BatchTensors'. Thread: the executor's.
class SlotTable {
 public:
  explicit SlotTable(const SlotTableShape& shape);

  // Retires, admits and blocks of the plan, in this order.
  void Apply(const engine::StepPlan& plan);
  // The sequence drew `token`, or failed with -1. Nothing happens when it has left the slot since.
  void Sampled(int slot, uint32_t generation, int32_t token);

  const SlotTableShape& shape() const { return shape_; }
  int max_blocks() const { return max_blocks_; }
  const engine::Sampling& sampling(int slot) const { return slots_[slot].sampling; }
  // Blocks of positions 0 … length - 1.
  absl::Span<const int32_t> blocks(int slot, int length) const {
    const int count = (length + engine::kBlockTokens - 1) / engine::kBlockTokens;
    BERTH_CHECK(count <= max_blocks_) << "length " << length << " of at most " << shape_.max_length;
    return {blocks_.data() + int64_t{slot} * max_blocks_, static_cast<size_t>(count)};
  }

  int32_t rope_variant(int slot) const { return slots_[slot].rope_variant; }

  // Whether the slot's edits depend on its last token.
  bool EditsNeedHistory(int slot) const { return slots_[slot].always_edits && !slots_[slot].bad_words.empty(); }
  // Whether AppendEdits may add any.
  bool MayEdit(int slot, int position) const {
    const Slot& state = slots_[slot];
    return state.always_edits || position < state.bans_stops_below;
  }
  // Closes one row of edits for the token that `slot` draws at `position`: biases, then stop tokens banned before the least
  // length, then last tokens of bad words whose other tokens end the history.
  void AppendEdits(int slot, int position, LogitEdits& edits) const {
    if (MayEdit(slot, position)) AddEdits(slots_[slot], position, edits);
    edits.start.push_back(static_cast<int32_t>(edits.token.size()));
  }

 private:
  // What every step asks for comes first, in one cache line.
  struct alignas(64) Slot {
    uint32_t generation = 0;
    int32_t rope_variant = 0;
    int32_t bans_stops_below = 0;  // this length
    bool always_edits = false;     // it has biases or bad words: only then the vectors need a look
    engine::Sampling sampling;
    std::vector<int32_t> history;  // prompt and output up to the last sampled token, of sequences with bad words
    std::vector<int32_t> stop_tokens;
    std::vector<engine::BiasRecord> biases;
    std::vector<int32_t> bad_words;  // {length, tokens …} each
  };

  Slot& at(int slot);
  static void AddEdits(const Slot& state, int position, LogitEdits& edits);
  void Admit(const engine::StepPlan& plan, const engine::AdmitRecord& admit);

  const SlotTableShape shape_;
  const int max_blocks_;
  std::vector<Slot> slots_;
  std::vector<int32_t> blocks_;  // [slots, max_blocks]
};

}  // namespace berth::runtime
