#include "worker/runtime/batch_tensors.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/status.h"
#include "worker/model/tensor_arena.h"

namespace berth::runtime {
namespace {

using kernels::DType;
using kernels::Tensor;

template <typename T, typename Values>
void Copy(const Values& values, const Tensor& to) {
  std::copy(values.begin(), values.end(), to.data<T>());
}

}  // namespace

absl::StatusOr<std::unique_ptr<BatchTensors>> BatchTensors::Create(const SlotTable& slots, int max_step_tokens,
                                                                   int tokenizer_size, kernels::Allocator& allocator) {
  std::unique_ptr<BatchTensors> tensors(new BatchTensors(slots, tokenizer_size, allocator));
  BERTH_RETURN_IF_ERROR(tensors->Reserve(max_step_tokens));
  return tensors;
}

absl::Status BatchTensors::Reserve(int max_step_tokens) {
  const int rows = slots_.shape().slots;
  BERTH_ASSIGN_OR_RETURN(buffer_,
                         model::AllocateTensors(allocator_, {{&token_, DType::kI32, max_step_tokens},
                                                             {&position_, DType::kI32, max_step_tokens},
                                                             {&sequence_of_, DType::kI32, max_step_tokens},
                                                             {&query_start_, DType::kI32, rows + 1},
                                                             {&context_length_, DType::kI32, rows},
                                                             {&block_table_, DType::kI32, rows, slots_.max_blocks()},
                                                             {&logit_row_, DType::kI32, rows},
                                                             {&logits_, DType::kF32, rows, slots_.shape().vocab},
                                                             {&sample_slot_, DType::kI32, rows},
                                                             {&sample_position_, DType::kI32, rows},
                                                             {&edit_start_, DType::kI32, rows + 1},
                                                             {&drawn_, DType::kI32, rows},
                                                             {&logprob_, DType::kF32, rows},
                                                             {&top_token_, DType::kI32, rows, kernels::kMaxLogprobs},
                                                             {&top_logprob_, DType::kF32, rows, kernels::kMaxLogprobs}}));
  return absl::OkStatus();
}

absl::StatusOr<StepTensors> BatchTensors::Fill(const engine::StepPlan& plan) {
  const int rows = static_cast<int>(plan.rows().size());
  BERTH_CHECK(rows > 0 && rows <= slots_.shape().slots) << rows << " rows for " << slots_.shape().slots << " slots";
  int tokens = 0;
  for (int i = 0; i < rows; ++i) {
    const engine::RowRecord& row = plan.rows()[i];
    BERTH_CHECK(tokens + row.count <= token_.dim(0)) << "a step of more than " << token_.dim(0) << " tokens";
    FillRow(plan, row, i, tokens);
    tokens += row.count;
  }
  StepTensors step;
  step.token = token_.Rows(0, tokens);
  step.batch = {.tokens = tokens,
                .sequences = rows,
                .position = position_.Rows(0, tokens),
                .sequence_of = sequence_of_.Rows(0, tokens),
                .query_start = query_start_.Rows(0, rows + 1),
                .context_length = context_length_.Rows(0, rows),
                .block_table = block_table_.Rows(0, rows)};
  BERTH_ASSIGN_OR_RETURN(const bool samples, FillSample(plan, &step.sample));
  if (samples) step.logit_row = logit_row_.Rows(0, step.sample.logits.dim(0));
  return step;
}

void BatchTensors::FillRow(const engine::StepPlan& plan, const engine::RowRecord& row, int entry, int begin) {
  int32_t* tokens = token_.data<int32_t>() + begin;
  if (row.token_begin == engine::RowRecord::kLastSampled) {
    *tokens = slots_.last_token(row.slot);
  } else {
    std::copy_n(plan.tokens().begin() + row.token_begin, row.count, tokens);
  }
  std::iota(position_.data<int32_t>() + begin, position_.data<int32_t>() + begin + row.count, row.position);
  std::fill_n(sequence_of_.data<int32_t>() + begin, row.count, entry);
  query_start_.data<int32_t>()[entry] = begin;
  query_start_.data<int32_t>()[entry + 1] = begin + row.count;
  context_length_.data<int32_t>()[entry] = row.position + row.count;
  Copy<int32_t>(slots_.blocks(row.slot, row.position + row.count), block_table_.Rows(entry, 1));
}

absl::StatusOr<bool> BatchTensors::FillSample(const engine::StepPlan& plan, kernels::SampleArgs* args) {
  int rows = 0, entry = 0;
  bool top = false;
  edits_.Clear();
  for (const engine::RowRecord& row : plan.rows()) {
    const int last = query_start_.data<int32_t>()[++entry] - 1;
    if (row.sample == 0) continue;
    const int position = row.position + row.count;
    logit_row_.data<int32_t>()[rows] = last;
    sample_slot_.data<int32_t>()[rows] = row.slot;
    sample_position_.data<int32_t>()[rows] = position;
    slots_.AppendEdits(row.slot, position, edits_);
    top = top || slots_.sampling(row.slot).logprobs > 0;
    ++rows;
  }
  if (rows == 0) return false;
  *args = {.logits = logits_.Rows(0, rows),
           .slot = sample_slot_.Rows(0, rows),
           .position = sample_position_.Rows(0, rows),
           .params = slots_.params(),
           .counts = slots_.counts(),
           .tokenizer_size = tokenizer_size_,
           .token = drawn_.Rows(0, rows),
           .logprob = logprob_.Rows(0, rows)};
  if (top) {
    args->top_token = top_token_.Rows(0, rows);
    args->top_logprob = top_logprob_.Rows(0, rows);
  }
  if (!edits_.token.empty()) BERTH_RETURN_IF_ERROR(CopyEdits(args));
  return true;
}

absl::Status BatchTensors::CopyEdits(kernels::SampleArgs* args) {
  const int64_t count = static_cast<int64_t>(edits_.token.size());
  if (edit_token_.empty() || edit_token_.dim(0) < count) {
    BERTH_ASSIGN_OR_RETURN(edit_buffer_, model::AllocateTensors(allocator_, {{&edit_token_, DType::kI32, 2 * count},
                                                                             {&edit_value_, DType::kF32, 2 * count}}));
  }
  Copy<int32_t>(edits_.start, edit_start_);
  Copy<int32_t>(edits_.token, edit_token_);
  Copy<float>(edits_.value, edit_value_);
  args->edit_start = edit_start_.Rows(0, static_cast<int64_t>(edits_.start.size()));
  args->edit_token = edit_token_.Rows(0, count);
  args->edit_value = edit_value_.Rows(0, count);
  return absl::OkStatus();
}

}  // namespace berth::runtime
