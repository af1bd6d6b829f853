#include "worker/runtime/model_runner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace berth::runtime {
namespace {

// Numbers of sequences whose decode step is recorded: closer together the smaller they are, so that padding stays cheap.
std::vector<int> RecordedSizes(int slots) {
  std::vector<int> sizes;
  for (int size = 1; size < slots; size += size < 8 ? size : size < 32 ? 8 : size < 128 ? 16 : 32) sizes.push_back(size);
  sizes.push_back(slots);
  return sizes;
}

// Steps with prompts and some decode rows are planned while the one before runs, and with so many tokens times the square of
// their hidden values they run long enough themselves.
constexpr int kSomeDecodeRows = 16;
constexpr int64_t kLongStep = int64_t{384} * 2048 * 2048;

// So many rows have logits that take a while to write and to read.
constexpr int kManyRows = 65;

engine::TokenLogprobs ReadLogprobs(const kernels::SampleArgs& drawn, int row, int alternatives) {
  engine::TokenLogprobs logprobs{.logprob = drawn.token.data<int32_t>()[row] < 0 ? NAN : drawn.logprob.data<float>()[row]};
  for (int i = 0; i < std::min(alternatives, kernels::kMaxLogprobs); ++i) {
    const int at = row * kernels::kMaxLogprobs + i;
    logprobs.top.emplace_back(drawn.top_token.data<int32_t>()[at], drawn.top_logprob.data<float>()[at]);
  }
  return logprobs;
}

}  // namespace

absl::StatusOr<int> SequenceLength(const model::DecoderSpec& spec, int session_len) {
  if (session_len <= spec.max_position) return session_len > 0 ? session_len : spec.max_position;
  return absl::InvalidArgumentError(
      absl::StrCat("session_len ", session_len, " exceeds the model's context length ", spec.max_position));
}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(const RunnerModel& model, const RunnerOptions& options,
                                                                 kernels::Ops& ops, const RunnerMemory& memory) {
  BERTH_CHECK(options.depth > 0 && options.depth <= kernels::Ops::kMarks) << "depth " << options.depth;
  std::unique_ptr<ModelRunner> runner(new ModelRunner(model, options, ops));
  const BatchOptions batch_options{.max_step_tokens = options.max_step_tokens,
                                   .vocab = model.spec.vocab,
                                   .hidden = model.spec.hidden,
                                   .tokenizer_size = model.tokenizer_size,
                                   .rope_variants = !model.spec.rope_lengths.empty(),
                                   .areas = options.depth};
  BERTH_ASSIGN_OR_RETURN(runner->batch_, BatchTensors::Create(runner->slots_, batch_options, ops, memory));
  BERTH_ASSIGN_OR_RETURN(runner->decoder_,
                         model::Decoder::Create(runner->model_.spec, runner->model_.weights, ops, memory.device,
                                                {.max_tokens = options.max_step_tokens,
                                                 .max_last_rows = options.slots,
                                                 .dtype = options.dtype,
                                                 .last_queries = options.last_queries}));
  return runner;
}

absl::Status ModelRunner::ReserveKv(int blocks, kernels::Allocator& allocator) {
  BERTH_ASSIGN_OR_RETURN(kv_cache_, KvCache::Create(model_.spec, options_.kv_dtype, blocks + 1, allocator));
  return absl::OkStatus();
}

absl::Status ModelRunner::RecordDecodeSteps() {
  for (const int entries : RecordedSizes(options_.slots)) {
    BatchPlace place{.entries = entries, .scratch_block = kv_cache_->blocks() - 1};
    const auto record = [&](int& recording) -> absl::Status {
      BERTH_ASSIGN_OR_RETURN(const StepTensors step, batch_->Fill(engine::StepPlan(), place));
      // What is made at a first use is made before the recording.
      Queue(step, std::nullopt);
      BERTH_RETURN_IF_ERROR(ops_.Sync());
      ops_.BeginRecording();
      Compute(step);
      BERTH_ASSIGN_OR_RETURN(recording, ops_.EndRecording());
      return absl::OkStatus();
    };
    Recording& recordings = recordings_[entries];
    BERTH_RETURN_IF_ERROR(record(recordings.any));
    recordings.greedy = recordings.any;
    place.greedy = entries >= kManyRows;
    if (place.greedy) BERTH_RETURN_IF_ERROR(record(recordings.greedy));
  }
  return absl::OkStatus();
}

absl::Status ModelRunner::Submit(const engine::StepPlan& plan) {
  ops_.Attach();
  if (NeedsTokensInFlight(plan)) {
    while (!flights_.empty()) {
      BERTH_ASSIGN_OR_RETURN(results_.emplace_back(), Collect());
    }
  }
  slots_.Apply(plan);
  const int entries = RecordedEntries(plan);
  const BatchPlace place{
      .area = next_area_, .entries = entries, .scratch_block = kv_cache_->blocks() - 1, .greedy = IsGreedy(plan)};
  BERTH_ASSIGN_OR_RETURN(const StepTensors step, batch_->Fill(plan, place));
  const auto recording = [&] { return place.greedy ? recordings_.at(entries).greedy : recordings_.at(entries).any; };
  Queue(step, entries > 0 ? std::optional<int>(recording()) : std::nullopt);
  ops_.Mark(next_area_);

  Flight& flight = flights_.emplace_back();
  flight = {.step = plan.step(), .area = next_area_, .drawn = step.drawn, .scored = step.scored, .pooled = step.pooled};
  flight.samples.reserve(plan.rows().size());
  for (const engine::RowRecord& row : plan.rows()) {
    if (row.pool == engine::RowRecord::Pool::kLast) flight.pools.push_back({.slot = row.slot, .generation = row.generation});
    const int32_t logprobs = slots_.sampling(row.slot).logprobs;
    if (row.score > 0) {
      flight.scores.push_back({.slot = row.slot, .generation = row.generation, .count = row.score, .logprobs = logprobs});
    }
    if (row.sample > 0) flight.samples.push_back({.slot = row.slot, .generation = row.generation, .logprobs = logprobs});
  }
  next_area_ = (next_area_ + 1) % options_.depth;
  return absl::OkStatus();
}

bool ModelRunner::NeedsTokensInFlight(const engine::StepPlan& plan) const {
  if (flights_.empty()) return false;
  return std::any_of(plan.rows().begin(), plan.rows().end(), [this](const engine::RowRecord& row) {
    return row.token_begin == engine::RowRecord::kLastSampled && slots_.EditsNeedHistory(row.slot);
  });
}

bool ModelRunner::MayEditLogits(const engine::RowRecord& row) const {
  return row.mask_words != 0 || slots_.MayEdit(row.slot, row.position + row.count);
}

int ModelRunner::RecordedEntries(const engine::StepPlan& plan) const {
  if (plan.rows().empty()) return 0;
  const auto found = recordings_.lower_bound(static_cast<int>(plan.rows().size()));
  if (found == recordings_.end()) return 0;
  const bool plain = std::all_of(plan.rows().begin(), plan.rows().end(), [this](const engine::RowRecord& row) {
    return row.count == 1 && row.sample == 1 && slots_.sampling(row.slot).logprobs <= 0 && !MayEditLogits(row);
  });
  return plain ? found->first : 0;
}

bool ModelRunner::IsGreedy(const engine::StepPlan& plan) const {
  return std::all_of(plan.rows().begin(), plan.rows().end(), [this](const engine::RowRecord& row) {
    const engine::Sampling& sampling = slots_.sampling(row.slot);
    return row.sample == 0 ||
           (sampling.temperature == 0 && sampling.repetition_penalty == 1 && sampling.presence_penalty == 0 &&
            sampling.frequency_penalty == 0 && sampling.logprobs < 0 && !MayEditLogits(row));
  });
}

void ModelRunner::Queue(const StepTensors& step, std::optional<int> recording) {
  if (step.extras.bytes > 0) ops_.Upload(step.extras.to, step.extras.from, step.extras.bytes);
  if (!step.admit.slot.empty()) ops_.Admit(step.admit);
  if (step.rows.bytes == 0) return;
  ops_.Upload(step.rows.to, step.rows.from, step.rows.bytes);
  if (recording.has_value()) {
    ops_.Replay(*recording);
  } else {
    const bool once = step.batch.decode_sequences >= kSomeDecodeRows &&
                      int64_t{step.batch.tokens} * model_.spec.hidden * model_.spec.hidden >= kLongStep;
    if (once) ops_.BeginOnce();
    Compute(step);
    if (once) ops_.EndOnce();
  }
  for (const QueuedCopy& copy : step.results) ops_.Download(copy.to, copy.from, copy.bytes);
}

void ModelRunner::Compute(const StepTensors& step) {
  const bool best = step.sample.greedy && step.logit_row.dim(0) >= kManyRows;
  decoder_->Forward({.token = step.token,
                     .last_token = batch_->last_token(),
                     .batch = step.batch,
                     .last = step.last,
                     .kv = kv_cache_->layers(),
                     .logit_row = step.logit_row,
                     .logits = step.sample.logits,
                     .best_of = best ? step.sample.tokenizer_size : 0,
                     .pool = step.pool});
  if (!step.logit_row.empty()) ops_.Sample(step.sample);
  for (const ScorePiece& piece : step.scores) {
    decoder_->Head(step.batch.tokens, piece.row, piece.sample.logits);
    ops_.Sample(piece.sample);
  }
}

absl::StatusOr<engine::StepResult> ModelRunner::Await() {
  ops_.Attach();
  if (results_.empty()) return Collect();
  engine::StepResult result = std::move(results_.front());
  results_.pop_front();
  return result;
}

absl::StatusOr<engine::StepResult> ModelRunner::Collect() {
  BERTH_CHECK(!flights_.empty()) << "no plan in flight";
  BERTH_RETURN_IF_ERROR(ops_.Wait(flights_.front().area));
  const Flight flight = std::move(flights_.front());
  flights_.pop_front();
  engine::StepResult result{.step = flight.step};
  result.rows.reserve(flight.samples.size());
  for (const Sample& sample : flight.samples) {
    const int row = static_cast<int>(result.rows.size());
    const int32_t token = flight.drawn.token.data<int32_t>()[row];
    slots_.Sampled(sample.slot, sample.generation, token);
    engine::RowResult& out = result.rows.emplace_back();
    out = {.slot = sample.slot, .generation = sample.generation, .token = token};
    if (sample.logprobs >= 0 && token >= 0) out.logprobs = ReadLogprobs(flight.drawn, row, sample.logprobs);
  }
  int position = 0;
  for (const Scored& scored : flight.scores) {
    engine::ScoreResult& out = result.scores.emplace_back();
    out = {.slot = scored.slot, .generation = scored.generation};
    for (const int end = position + scored.count; position < end; ++position) {
      out.logprobs.push_back(ReadLogprobs(flight.scored, position, scored.logprobs));
    }
  }
  for (const Pooled& pooled : flight.pools) {
    const int64_t hidden = flight.pooled.dim(1);
    const float* const sum = flight.pooled.data<float>() + static_cast<int64_t>(result.pools.size()) * hidden;
    result.pools.push_back({.slot = pooled.slot, .generation = pooled.generation, .sum = {sum, sum + hidden}});
  }
  return result;
}

}  // namespace berth::runtime
