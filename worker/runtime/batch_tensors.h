#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "worker/engine/step_plan.h"
#include "worker/model/decoder.h"
#include "worker/runtime/mirror_area.h"
#include "worker/runtime/slot_table.h"
#include "worker/runtime/step_extras.h"

namespace berth::runtime {

struct BatchOptions {
  int max_step_tokens = 0;
  int vocab = 0;
  int hidden = 0;
  int tokenizer_size = 0;      // ids from here on are never drawn
  bool rope_variants = false;  // sequences rotate by variants of their own
  int areas = 1;               // steps whose tensors are in use at once
};

// Which of the staging areas a step takes, and how many entries its batch gets; 0: one per row of the plan. What goes beyond
// the rows is padding: no token at position 0 of `scratch_block`, drawn in the scratch slot, so that no kernel but Embed knows
// of it.
struct BatchPlace {
  int area = 0;
  int entries = 0;
  int32_t scratch_block = 0;
  bool greedy = false;  // as in SampleArgs, of all rows that sample
};

// Some of a step's positions to score, after its draws: the logits' rows are used for one piece after the other.
struct ScorePiece {
  kernels::Tensor row;  // i32 [positions]
  kernels::SampleArgs sample;
};

// One step's work, in order. Tensors are on the device, cut to the step's size. Those of the batch and of plain sampling lie
// where the numbers of tokens, entries and samples put them, whatever the step.
struct StepTensors {
  QueuedCopy extras, rows;     // to the device
  kernels::AdmitArgs admit;    // without slots: none
  kernels::Tensor token;       // i32 [tokens]; ~slot: the slot's last token
  kernels::Batch batch;        // without tokens: nothing to compute
  model::LastRows last;        // of a step with rows that nobody reads after the layers
  kernels::Tensor logit_row;   // i32 [rows that sample], of the last rows if there are such, empty when none does
  kernels::SampleArgs sample;  // its logits are the decoder's output
  kernels::PoolArgs pool;      // without slots: none
  std::vector<ScorePiece> scores;
  std::vector<QueuedCopy> results;  // to the host
  kernels::SampleArgs drawn;        // token, logprob, top_token and top_logprob as the host then has them
  kernels::SampleArgs scored;       // the same of all positions to score
  kernels::Tensor pooled;           // f32 [pooled sequences that end, hidden], on the host
};

// Turns plans into the tensors of steps, and owns what the kernels keep per slot: sampling parameters, penalty counts, last
// tokens and sums of hidden states, with one slot more than the table has, the scratch slot. Memory is reserved at the start.
// Thread: the executor's.
class BatchTensors {
 public:
  static absl::StatusOr<std::unique_ptr<BatchTensors>> Create(const SlotTable& slots, const BatchOptions& options,
                                                              kernels::Ops& ops, const RunnerMemory& memory);
  // The plan's deltas must have been applied to the slot table. The result is valid until the next call for its area, which
  // must wait for the step's end.
  absl::StatusOr<StepTensors> Fill(const engine::StepPlan& plan, const BatchPlace& place);

  const kernels::Tensor& last_token() const { return last_token_; }  // i32 [slots + 1]
  const kernels::Tensor& logits() const { return logits_; }          // f32 [slots, vocab]

 private:
  struct Counts {
    int tokens = 0, entries = 0, samples = 0, chunks = 0, pools = 0, scores = 0;
    int last_rows = 0;  // all entries, or none
  };
  struct Rows {
    Mirrored token, position, sequence_of;                            // per token of the step
    Mirrored query_start, context_length, rope_variant, block_table;  // per entry of the batch
    Mirrored last_row, last_position, last_index;                     // per last row; of the index one more
    Mirrored logit_row, sample_slot, sample_position;                 // per sample
    Mirrored pool_begin, pool_end, pool_slot, pool_fresh;             // per chunk of a pooled sequence
    Mirrored score_row, score_slot, score_target;                     // per position to score
  };
  struct Results {
    Mirrored token, logprob, top_token, top_logprob;  // per sample or position to score
  };
  struct StagingArea {
    kernels::Buffer rows, results, scored, pooled;
  };

  BatchTensors(const SlotTable& slots, const BatchOptions& options, kernels::Ops& ops, const RunnerMemory& memory)
      : slots_(slots), options_(options), extras_(options.vocab, options.areas, ops, memory) {}
  absl::Status Reserve(const RunnerMemory& memory);
  absl::Status ReadyScratchSlot(kernels::Ops& ops);
  Rows CutRows(MirrorArea& area, const Counts& counts) const;
  static Results CutResults(MirrorArea& area, int samples, bool top);

  Counts Count(const engine::StepPlan& plan, const BatchPlace& place) const;
  void FillRow(const engine::StepPlan& plan, const engine::RowRecord& row, const Rows& rows, int entry, int begin) const;
  void FillLastRows(const Rows& rows) const;
  // Returns whether any row wants alternatives reported.
  bool FillSamples(const engine::StepPlan& plan, const Rows& rows, const Counts& counts);
  void FillPools(const engine::StepPlan& plan, const Rows& rows) const;
  // Returns as FillSamples.
  bool FillScores(const engine::StepPlan& plan, const Rows& rows) const;
  void FillPadding(const Rows& rows, const Counts& counts, int first, int32_t block, int32_t slot) const;
  kernels::Batch MakeBatch(const Rows& rows, const Counts& counts, const BatchPlace& place) const;
  void SetSample(const Rows& rows, const Counts& counts, bool top, const BatchPlace& place, StepTensors& step) const;
  void SetScores(const Rows& rows, const Counts& counts, bool top, int area, StepTensors& step) const;
  void SetPool(const engine::StepPlan& plan, const Rows& rows, const Counts& counts, int area, StepTensors& step) const;

  const SlotTable& slots_;
  const BatchOptions options_;
  StepExtras extras_;
  std::vector<StagingArea> staging_;
  kernels::Buffer rows_, results_, scored_, state_;  // on the device
  kernels::Tensor logits_, params_, counts_, last_token_, hidden_sum_;
  LogitEdits edits_;      // of the step being filled
  uint64_t batches_ = 0;  // that were made
};

}  // namespace berth::runtime
