#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "worker/engine/step_plan.h"
#include "worker/runtime/slot_table.h"

namespace berth::runtime {

// One step's tensors, cut to its size.
struct StepTensors {
  kernels::Tensor token;  // i32 [tokens]
  kernels::Batch batch;
  kernels::Tensor logit_row;   // i32 [rows that sample], empty when none does
  kernels::SampleArgs sample;  // its logits are the decoder's output
};

// Turns the rows of a plan into the tensors of a step. All memory is reserved at the start, but that of logit edits, which
// grows with the largest step seen. The allocator's memory can be written and read by the host. Thread: the executor's.
class BatchTensors {
 public:
  // `tokenizer_size`: ids from here on are never drawn.
  static absl::StatusOr<std::unique_ptr<BatchTensors>> Create(const SlotTable& slots, int max_step_tokens, int tokenizer_size,
                                                              kernels::Allocator& allocator);
  // The plan must have rows and its deltas must have been applied to the slot table. The result is valid until the next call.
  absl::StatusOr<StepTensors> Fill(const engine::StepPlan& plan);

 private:
  BatchTensors(const SlotTable& slots, int tokenizer_size, kernels::Allocator& allocator)
      : slots_(slots), tokenizer_size_(tokenizer_size), allocator_(allocator) {}
  absl::Status Reserve(int max_step_tokens);
  void FillRow(const engine::StepPlan& plan, const engine::RowRecord& row, int entry, int begin);
  // The sampling side of the rows that sample; false: none does.
  absl::StatusOr<bool> FillSample(const engine::StepPlan& plan, kernels::SampleArgs* args);
  absl::Status CopyEdits(kernels::SampleArgs* args);

  const SlotTable& slots_;
  const int tokenizer_size_;
  kernels::Allocator& allocator_;
  kernels::Buffer buffer_, edit_buffer_;
  kernels::Tensor token_, position_, sequence_of_;              // per token of the step
  kernels::Tensor query_start_, context_length_, block_table_;  // per row of the plan
  kernels::Tensor logit_row_, logits_, sample_slot_, sample_position_, edit_start_;
  kernels::Tensor drawn_, logprob_, top_token_, top_logprob_;  // outputs
  kernels::Tensor edit_token_, edit_value_;
  LogitEdits edits_;
};

}  // namespace berth::runtime
