#include "worker/runtime/batch_tensors.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/status.h"
#include "worker/model/tensor_arena.h"

namespace berth::runtime {
namespace {

using kernels::DType;
using kernels::SlotSampling;
using Pool = engine::RowRecord::Pool;

static_assert(engine::kBlockTokens == kernels::kKvBlockTokens);

// What sampling wrote, as the host has it.
template <typename Results>
kernels::SampleArgs OnHost(const Results& results) {
  return {.token = results.token.host,
          .logprob = results.logprob.host,
          .top_token = results.top_token.host,
          .top_logprob = results.top_logprob.host};
}

}  // namespace

absl::StatusOr<std::unique_ptr<BatchTensors>> BatchTensors::Create(const SlotTable& slots, const BatchOptions& options,
                                                                   kernels::Ops& ops, const RunnerMemory& memory) {
  std::unique_ptr<BatchTensors> tensors(new BatchTensors(slots, options, ops, memory));
  BERTH_RETURN_IF_ERROR(tensors->Reserve(memory));
  BERTH_RETURN_IF_ERROR(tensors->ReadyScratchSlot(ops));
  return tensors;
}

absl::Status BatchTensors::Reserve(const RunnerMemory& memory) {
  const int slots = slots_.shape().slots;
  BERTH_ASSIGN_OR_RETURN(state_, model::AllocateTensors(memory.device, {{&logits_, DType::kF32, slots, options_.vocab},
                                                                        {&params_, DType::kU8, slots + 1, sizeof(SlotSampling)},
                                                                        {&counts_, DType::kU32, slots + 1, options_.vocab},
                                                                        {&last_token_, DType::kI32, slots + 1},
                                                                        {&hidden_sum_, DType::kF32, slots, options_.hidden}}));
  MirrorArea rows, results, scored;
  CutRows(rows, {.tokens = options_.max_step_tokens,
                 .entries = slots,
                 .samples = slots,
                 .chunks = slots,
                 .scores = options_.max_step_tokens,
                 .last_rows = slots});
  CutResults(results, slots, /*top=*/true);
  CutResults(scored, options_.max_step_tokens, /*top=*/true);
  BERTH_ASSIGN_OR_RETURN(rows_, memory.device.Allocate(rows.used()));
  BERTH_ASSIGN_OR_RETURN(results_, memory.device.Allocate(results.used()));
  BERTH_ASSIGN_OR_RETURN(scored_, memory.device.Allocate(scored.used()));
  for (int i = 0; i < options_.areas; ++i) {
    StagingArea& area = staging_.emplace_back();
    BERTH_ASSIGN_OR_RETURN(area.rows, memory.staging.Allocate(rows.used()));
    BERTH_ASSIGN_OR_RETURN(area.results, memory.staging.Allocate(results.used()));
    BERTH_ASSIGN_OR_RETURN(area.scored, memory.staging.Allocate(scored.used()));
    BERTH_ASSIGN_OR_RETURN(area.pooled, memory.staging.Allocate(sizeof(float) * hidden_sum_.elements()));
  }
  return extras_.Reserve(slots);
}

// The cheapest draw there is.
absl::Status BatchTensors::ReadyScratchSlot(kernels::Ops& ops) {
  const SlotSampling greedy{.temperature = 0};
  ops.Upload(params_.data<uint8_t>() + slots_.shape().slots * params_.stride(0), &greedy, sizeof(greedy));
  return ops.Sync();
}

BatchTensors::Rows BatchTensors::CutRows(MirrorArea& area, const Counts& counts) const {
  Rows rows;
  for (Mirrored* tensor : {&rows.token, &rows.position, &rows.sequence_of}) *tensor = area.Cut(DType::kI32, {counts.tokens});
  rows.query_start = area.Cut(DType::kI32, {counts.entries + 1});
  rows.context_length = area.Cut(DType::kI32, {counts.entries});
  if (options_.rope_variants) rows.rope_variant = area.Cut(DType::kI32, {counts.entries});
  for (Mirrored* tensor : {&rows.last_row, &rows.last_position}) *tensor = area.Cut(DType::kI32, {counts.last_rows});
  rows.last_index = area.Cut(DType::kI32, {counts.last_rows + 1});
  for (Mirrored* tensor : {&rows.logit_row, &rows.sample_slot, &rows.sample_position}) {
    *tensor = area.Cut(DType::kI32, {counts.samples});
  }
  rows.block_table = area.Cut(DType::kI32, {counts.entries, slots_.max_blocks()});
  for (Mirrored* tensor : {&rows.pool_begin, &rows.pool_end, &rows.pool_slot, &rows.pool_fresh}) {
    *tensor = area.Cut(DType::kI32, {counts.chunks});
  }
  for (Mirrored* tensor : {&rows.score_row, &rows.score_slot, &rows.score_target}) {
    *tensor = area.Cut(DType::kI32, {counts.scores});
  }
  return rows;
}

BatchTensors::Results BatchTensors::CutResults(MirrorArea& area, int samples, bool top) {
  Results results;
  results.token = area.Cut(DType::kI32, {samples});
  results.logprob = area.Cut(DType::kF32, {samples});
  if (!top) return results;
  results.top_token = area.Cut(DType::kI32, {samples, kernels::kMaxLogprobs});
  results.top_logprob = area.Cut(DType::kF32, {samples, kernels::kMaxLogprobs});
  return results;
}

absl::StatusOr<StepTensors> BatchTensors::Fill(const engine::StepPlan& plan, const BatchPlace& place) {
  StepTensors step;
  const Counts counts = Count(plan, place);
  edits_.Clear();
  if (counts.entries > 0) {
    const kernels::Buffer& staging = staging_[place.area].rows;
    MirrorArea area(staging.data(), rows_.data(), staging.bytes());
    const Rows rows = CutRows(area, counts);
    int entry = 0, begin = 0;
    for (const engine::RowRecord& row : plan.rows()) {
      FillRow(plan, row, rows, entry++, begin);
      begin += row.count;
    }
    FillLastRows(rows);
    const bool top = FillSamples(plan, rows, counts);
    const bool score_top = counts.scores > 0 && FillScores(plan, rows);
    if (counts.chunks > 0) FillPools(plan, rows);
    FillPadding(rows, counts, entry, place.scratch_block, slots_.shape().slots);
    step.token = rows.token.device;
    ++batches_;
    step.batch = MakeBatch(rows, counts, place);
    if (counts.last_rows > 0) {
      step.last = model::LastRowsOf(step.batch, rows.last_row.device, rows.last_position.device, rows.last_index.device);
    }
    step.rows = {.to = area.device(), .from = area.host(), .bytes = area.used()};
    if (counts.samples > 0) SetSample(rows, counts, top, place, step);
    if (counts.scores > 0) SetScores(rows, counts, score_top, place.area, step);
    if (counts.chunks > 0) SetPool(plan, rows, counts, place.area, step);
  }
  step.admit = {.slot_params = params_, .slot_counts = counts_};
  BERTH_ASSIGN_OR_RETURN(step.extras, extras_.Fill(plan, edits_, place.area, &step.admit, &step.sample));
  return step;
}

BatchTensors::Counts BatchTensors::Count(const engine::StepPlan& plan, const BatchPlace& place) const {
  const int rows = static_cast<int>(plan.rows().size()), padding = std::max(0, place.entries - rows);
  Counts counts{.tokens = padding, .entries = rows + padding, .samples = padding};
  for (const engine::RowRecord& row : plan.rows()) {
    counts.tokens += row.count;
    counts.samples += row.sample;
    counts.chunks += row.pool != Pool::kNone;
    counts.pools += row.pool == Pool::kLast;
    counts.scores += row.score;
  }
  if (counts.tokens > counts.entries && counts.chunks == 0 && counts.scores == 0) counts.last_rows = counts.entries;
  BERTH_CHECK(counts.entries <= slots_.shape().slots) << counts.entries << " rows for " << slots_.shape().slots << " slots";
  BERTH_CHECK(counts.tokens <= options_.max_step_tokens) << "a step of more than " << options_.max_step_tokens << " tokens";
  return counts;
}

void BatchTensors::FillRow(const engine::StepPlan& plan, const engine::RowRecord& row, const Rows& rows, int entry,
                           int begin) const {
  int32_t* tokens = rows.token.ints() + begin;
  if (row.token_begin == engine::RowRecord::kLastSampled) {
    *tokens = ~row.slot;
  } else {
    std::copy_n(plan.tokens().begin() + row.token_begin, row.count, tokens);
  }
  int32_t* positions = rows.position.ints() + begin;
  std::iota(positions, positions + row.count, row.position);
  std::fill_n(rows.sequence_of.ints() + begin, row.count, entry);
  int32_t* start = rows.query_start.ints() + entry;
  start[0] = begin;
  start[1] = begin + row.count;
  rows.context_length.ints()[entry] = row.position + row.count;
  if (options_.rope_variants) rows.rope_variant.ints()[entry] = slots_.rope_variant(row.slot);
  const absl::Span<const int32_t> blocks = slots_.blocks(row.slot, row.position + row.count);
  std::copy(blocks.begin(), blocks.end(), rows.block_table.ints() + int64_t{entry} * slots_.max_blocks());
}

void BatchTensors::FillLastRows(const Rows& rows) const {
  const int32_t* const start = rows.query_start.ints();
  const int32_t* const length = rows.context_length.ints();
  int32_t* const index = rows.last_index.ints();
  std::iota(index, index + rows.last_index.host.dim(0), 0);
  for (int64_t i = 0; i < rows.last_row.host.dim(0); ++i) {
    rows.last_row.ints()[i] = start[i + 1] - 1;
    rows.last_position.ints()[i] = length[i] - 1;
  }
}

bool BatchTensors::FillSamples(const engine::StepPlan& plan, const Rows& rows, const Counts& counts) {
  int sample = 0, entry = 0;
  bool top = false;
  for (const engine::RowRecord& row : plan.rows()) {
    const int at = entry++;
    if (row.sample == 0) continue;
    const int position = row.position + row.count;
    rows.logit_row.ints()[sample] = counts.last_rows > 0 ? at : rows.query_start.ints()[at + 1] - 1;
    rows.sample_slot.ints()[sample] = row.slot;
    rows.sample_position.ints()[sample] = position;
    slots_.AppendEdits(row.slot, position, edits_);
    top = top || slots_.sampling(row.slot).logprobs > 0;
    ++sample;
  }
  return top;
}

bool BatchTensors::FillScores(const engine::StepPlan& plan, const Rows& rows) const {
  int entry = 0, next = 0;
  bool top = false;
  for (const engine::RowRecord& row : plan.rows()) {
    const int32_t begin = rows.query_start.ints()[entry++];
    if (row.score == 0) continue;
    int32_t* const position = rows.score_row.ints() + next;
    std::iota(position, position + row.score, begin);
    std::fill_n(rows.score_slot.ints() + next, row.score, row.slot);
    std::copy_n(plan.tokens().begin() + row.token_begin + 1, row.score, rows.score_target.ints() + next);
    top = top || slots_.sampling(row.slot).logprobs > 0;
    next += row.score;
  }
  return top;
}

void BatchTensors::FillPools(const engine::StepPlan& plan, const Rows& rows) const {
  const int32_t* const start = rows.query_start.ints();
  int entry = 0, chunk = 0;
  for (const engine::RowRecord& row : plan.rows()) {
    const int at = entry++;
    if (row.pool == Pool::kNone) continue;
    rows.pool_begin.ints()[chunk] = start[at];
    rows.pool_end.ints()[chunk] = start[at + 1];
    rows.pool_slot.ints()[chunk] = row.slot;
    rows.pool_fresh.ints()[chunk] = row.position == 0 ? 1 : 0;
    ++chunk;
  }
}

void BatchTensors::FillPadding(const Rows& rows, const Counts& counts, int first, int32_t block, int32_t slot) const {
  const int padding = counts.entries - first;
  for (int i = 0; i < padding; ++i) {
    const int entry = first + i, token = counts.tokens - padding + i, sample = counts.samples - padding + i;
    rows.token.ints()[token] = kernels::kNoToken;
    rows.position.ints()[token] = 0;
    rows.sequence_of.ints()[token] = entry;
    rows.query_start.ints()[entry] = token;
    rows.query_start.ints()[entry + 1] = token + 1;
    rows.context_length.ints()[entry] = 1;
    if (options_.rope_variants) rows.rope_variant.ints()[entry] = 0;
    rows.block_table.ints()[entry * rows.block_table.host.stride(0)] = block;
    rows.logit_row.ints()[sample] = token;
    rows.sample_slot.ints()[sample] = slot;
    rows.sample_position.ints()[sample] = 1;
  }
}

kernels::Batch BatchTensors::MakeBatch(const Rows& rows, const Counts& counts, const BatchPlace& place) const {
  const int32_t *start = rows.query_start.ints(), *length = rows.context_length.ints();
  int decodes = 0;
  while (decodes < counts.entries && start[decodes + 1] == decodes + 1) ++decodes;
  int64_t chunk_pairs = 0;
  for (int i = decodes; i < counts.entries; ++i) {
    const int64_t count = start[i + 1] - start[i];
    chunk_pairs += count * (length[i] - count) + count * (count + 1) / 2;
  }
  // A padded step may be a recording, which later steps replay.
  const int max_context = place.entries > 0 ? slots_.shape().max_length : *std::max_element(length, length + counts.entries);
  return {.number = batches_,
          .tokens = counts.tokens,
          .sequences = counts.entries,
          .decode_sequences = decodes,
          .chunk_pairs = chunk_pairs,
          .max_context = max_context,
          .position = rows.position.device,
          .sequence_of = rows.sequence_of.device,
          .query_start = rows.query_start.device,
          .context_length = rows.context_length.device,
          .rope_variant = options_.rope_variants ? rows.rope_variant.device : kernels::Tensor(),
          .block_table = rows.block_table.device};
}

void BatchTensors::SetSample(const Rows& rows, const Counts& counts, bool top, const BatchPlace& place,
                             StepTensors& step) const {
  const kernels::Buffer& staging = staging_[place.area].results;
  MirrorArea memory(staging.data(), results_.data(), staging.bytes());
  const Results results = CutResults(memory, counts.samples, top);
  step.logit_row = rows.logit_row.device;
  step.sample = {.logits = logits_.Rows(0, counts.samples),
                 .slot = rows.sample_slot.device,
                 .position = rows.sample_position.device,
                 .params = params_,
                 .counts = counts_,
                 .last_token = last_token_,
                 .tokenizer_size = options_.tokenizer_size,
                 .greedy = place.greedy,
                 .token = results.token.device,
                 .logprob = results.logprob.device,
                 .top_token = results.top_token.device,
                 .top_logprob = results.top_logprob.device};
  step.drawn = OnHost(results);
  step.results.push_back({.to = memory.host(), .from = memory.device(), .bytes = memory.used()});
}

void BatchTensors::SetScores(const Rows& rows, const Counts& counts, bool top, int area, StepTensors& step) const {
  const kernels::Buffer& staging = staging_[area].scored;
  MirrorArea memory(staging.data(), scored_.data(), staging.bytes());
  const Results results = CutResults(memory, counts.scores, top);
  const int64_t most = logits_.dim(0);
  for (int64_t begin = 0; begin < counts.scores; begin += most) {
    const int64_t count = std::min(most, counts.scores - begin);
    const auto part = [&](const Mirrored& tensor) {
      return tensor.device.empty() ? kernels::Tensor() : tensor.device.Rows(begin, count);
    };
    step.scores.push_back({.row = part(rows.score_row),
                           .sample = {.logits = logits_.Rows(0, count),
                                      .slot = part(rows.score_slot),
                                      .target = part(rows.score_target),
                                      .params = params_,
                                      .counts = counts_,
                                      .tokenizer_size = options_.tokenizer_size,
                                      .token = part(results.token),
                                      .logprob = part(results.logprob),
                                      .top_token = part(results.top_token),
                                      .top_logprob = part(results.top_logprob)}});
  }
  step.scored = OnHost(results);
  step.results.push_back({.to = memory.host(), .from = memory.device(), .bytes = memory.used()});
}

void BatchTensors::SetPool(const engine::StepPlan& plan, const Rows& rows, const Counts& counts, int area,
                           StepTensors& step) const {
  step.pool = {.begin = rows.pool_begin.device,
               .end = rows.pool_end.device,
               .slot = rows.pool_slot.device,
               .fresh = rows.pool_fresh.device,
               .sum = hidden_sum_};
  step.pooled = kernels::Tensor(staging_[area].pooled.data(), DType::kF32, {counts.pools, options_.hidden});
  int64_t next = 0;
  for (const engine::RowRecord& row : plan.rows()) {
    if (row.pool != Pool::kLast) continue;
    step.results.push_back({.to = step.pooled.data<float>() + next++ * options_.hidden,
                            .from = hidden_sum_.data<float>() + row.slot * hidden_sum_.stride(0),
                            .bytes = sizeof(float) * options_.hidden});
  }
}

}  // namespace berth::runtime
