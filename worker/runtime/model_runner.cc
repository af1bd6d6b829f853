#include "worker/runtime/model_runner.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace berth::runtime {
namespace {

engine::TokenLogprobs ReadLogprobs(const kernels::SampleArgs& sampled, int row, int alternatives) {
  engine::TokenLogprobs logprobs{.logprob = sampled.logprob.data<float>()[row]};
  for (int i = 0; i < std::min(alternatives, kernels::kMaxLogprobs); ++i) {
    const int at = row * kernels::kMaxLogprobs + i;
    logprobs.top.emplace_back(sampled.top_token.data<int32_t>()[at], sampled.top_logprob.data<float>()[at]);
  }
  return logprobs;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(const RunnerModel& model, const RunnerOptions& options,
                                                                 kernels::Ops& ops, kernels::Allocator& allocator) {
  std::unique_ptr<ModelRunner> runner(new ModelRunner(ops));
  BERTH_ASSIGN_OR_RETURN(runner->kv_cache_, KvCache::Create(model.spec, options.kv_dtype, options.kv_blocks, allocator));
  const SlotTableShape shape{.slots = options.slots, .vocab = model.spec.vocab, .max_length = options.max_length};
  BERTH_ASSIGN_OR_RETURN(runner->slots_, SlotTable::Create(shape, allocator));
  BERTH_ASSIGN_OR_RETURN(runner->batch_,
                         BatchTensors::Create(*runner->slots_, options.max_step_tokens, model.tokenizer_size, allocator));
  BERTH_ASSIGN_OR_RETURN(runner->decoder_,
                         model::Decoder::Create(model.spec, model.weights, ops, allocator, options.max_step_tokens));
  return runner;
}

absl::StatusOr<engine::StepResult> ModelRunner::Run(const engine::StepPlan& plan) {
  slots_->Apply(plan);
  if (plan.rows().empty()) return engine::StepResult{.step = plan.step()};
  BERTH_ASSIGN_OR_RETURN(const StepTensors step, batch_->Fill(plan));
  decoder_->Forward({.token = step.token,
                     .batch = step.batch,
                     .kv = kv_cache_->layers(),
                     .logit_row = step.logit_row,
                     .logits = step.sample.logits});
  if (!step.logit_row.empty()) ops_.Sample(step.sample);
  BERTH_RETURN_IF_ERROR(ops_.Sync());
  return Collect(plan, step.sample);
}

engine::StepResult ModelRunner::Collect(const engine::StepPlan& plan, const kernels::SampleArgs& sampled) {
  engine::StepResult result{.step = plan.step()};
  for (const engine::RowRecord& row : plan.rows()) {
    if (row.sample == 0) continue;
    const int index = static_cast<int>(result.rows.size());
    const int32_t token = sampled.token.data<int32_t>()[index];
    slots_->Sampled(row.slot, token);
    engine::RowResult& out = result.rows.emplace_back();
    out = {.slot = row.slot, .generation = row.generation, .token = token};
    const int alternatives = slots_->sampling(row.slot).logprobs;
    if (alternatives >= 0 && token >= 0) out.logprobs = ReadLogprobs(sampled, index, alternatives);
  }
  return result;
}

}  // namespace berth::runtime
