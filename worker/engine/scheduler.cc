#include "worker/engine/scheduler.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/check.h"

namespace berth::engine {

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), pool_(options.kv_blocks), slots_(options.slots), generations_(options.slots) {
  BERTH_CHECK(options.slots > 0 && options.kv_blocks > 0 && options.step_tokens > 1)
      << options.slots << " slots, " << options.kv_blocks << " blocks, " << options.step_tokens << " tokens per step";
  for (int slot = options.slots - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

void Scheduler::Add(SequenceSpec spec) {
  auto owned = std::make_unique<Sequence>();
  Sequence& sequence = *owned;
  sequence.order = next_order_++;
  sequence.tokens = std::move(spec.tokens);
  sequence.spec = std::move(spec);
  sequence.given = sequence.length();
  sequence.limit = sequence.spec.max_tokens;
  const SequenceId id = sequence.spec.id;
  BERTH_CHECK(sequences_.emplace(id, std::move(owned)).second) << "sequence " << id << " was added twice";
  waiting_.insert(&sequence);
  if (sequence.spec.deadline < absl::InfiniteDuration()) deadlines_.emplace(sequence.spec.deadline, id);
  EndIfDone(sequence);
}

void Scheduler::Cancel(SequenceId id) {
  if (Sequence* sequence = Lookup(id)) End(*sequence, FinishReason::kCancelled);
}

void Scheduler::Finish(SequenceId id, int output_tokens) {
  Sequence* sequence = Lookup(id);
  if (sequence == nullptr || output_tokens > sequence->limit) return;
  sequence->limit = std::max(output_tokens, 0);
  sequence->limit_reason = FinishReason::kFinished;
  if (sequence->output() > sequence->limit) sequence->tokens.resize(sequence->spec.prompt_length + sequence->limit);
  EndIfDone(*sequence);
}

void Scheduler::EndAll(FinishReason reason, const std::string& error) {
  std::vector<Sequence*> all(active_.begin(), active_.end());
  all.insert(all.end(), waiting_.begin(), waiting_.end());
  for (Sequence* sequence : all) End(*sequence, reason, error);
}

std::vector<SequenceUpdate> Scheduler::Commit(StepResult result) {
  BERTH_CHECK(!flights_.empty() && flights_.front().step == result.step) << "result of step " << result.step;
  const Flight flight = std::move(flights_.front());
  flights_.pop_front();
  pool_.CommitStep(flight.step);
  ++counters_.steps;
  updates_.reserve(updates_.size() + flight.rows.size());
  size_t next = 0, next_pool = 0, next_score = 0;
  for (const FlightRow& row : flight.rows) {
    const RowResult* drawn = nullptr;
    PoolResult* pooled = nullptr;
    ScoreResult* scored = nullptr;
    if (row.sample) {
      BERTH_CHECK(next < result.rows.size()) << "step " << result.step << " has only " << result.rows.size() << " results";
      drawn = &result.rows[next++];
      BERTH_CHECK(drawn->slot == row.slot && drawn->generation == row.generation) << "result " << next - 1 << " is another's";
    }
    if (row.pooled) {
      BERTH_CHECK(next_pool < result.pools.size()) << "step " << result.step << " has " << result.pools.size() << " sums";
      pooled = &result.pools[next_pool++];
      BERTH_CHECK(pooled->slot == row.slot && pooled->generation == row.generation) << "a sum is another's";
    }
    if (row.scores > 0) {
      BERTH_CHECK(next_score < result.scores.size()) << "step " << result.step << " has " << result.scores.size() << " scores";
      scored = &result.scores[next_score++];
      BERTH_CHECK(scored->slot == row.slot && scored->generation == row.generation) << "scores are another's";
    }
    Sequence* sequence = slots_[row.slot];
    if (sequence == nullptr || sequence->at.generation != row.generation) continue;
    sequence->at.computed = row.end;
    if (!sequence->started) UpdateOf(*sequence);
    if (scored != nullptr) CommitScores(*sequence, row.score_begin, std::move(scored->logprobs));
    // Its scores may have ended it.
    if (slots_[row.slot] != sequence) continue;
    if (drawn != nullptr) CommitToken(*sequence, *drawn);
    if (pooled != nullptr) CommitPool(*sequence, std::move(pooled->sum));
  }
  return TakeUpdates();
}

std::vector<SequenceUpdate> Scheduler::TakeUpdates() { return std::exchange(updates_, {}); }

absl::Duration Scheduler::NextDeadline() const {
  return deadlines_.empty() ? absl::InfiniteDuration() : deadlines_.begin()->first;
}

bool Scheduler::has_work() const {
  return !waiting_.empty() || std::any_of(active_.begin(), active_.end(), [](const Sequence* sequence) {
    return sequence->prompt_left() > 0 || sequence->planned_output() < sequence->limit;
  });
}

EngineStats Scheduler::stats() const {
  EngineStats stats = counters_;
  stats.running = static_cast<int>(active_.size());
  stats.waiting = static_cast<int>(waiting_.size());
  stats.slots = options_.slots;
  stats.kv_blocks_total = pool_.size();
  stats.kv_blocks_used = pool_.referenced();
  stats.kv_blocks_cached = pool_.unused_cached();
  for (const Sequence* sequence : active_) stats.waiting_prompt_tokens += sequence->prompt_left();
  for (const Sequence* sequence : waiting_) stats.waiting_prompt_tokens += sequence->length();
  return stats;
}

Scheduler::Sequence* Scheduler::Lookup(SequenceId id) const {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : found->second.get();
}

void Scheduler::CommitToken(Sequence& sequence, const RowResult& result) {
  --sequence.at.drawing;
  if (result.token < 0) {
    return End(sequence, FinishReason::kError, "INTERNAL: the model's output was not a number or allowed no token");
  }
  sequence.at.sound = sequence.at.computed;
  sequence.tokens.push_back(result.token);
  if (sequence.spec.constraint != nullptr) sequence.spec.constraint->Accept(result.token);
  ++counters_.generated_tokens;
  SequenceUpdate& update = UpdateOf(sequence);
  update.tokens.push_back(result.token);
  if (sequence.spec.sampling.logprobs >= 0) update.MakeDetails().logprobs.push_back(result.logprobs);
  if (!sequence.prompt_cached) {
    sequence.prompt_cached = true;
    PublishBlocks(sequence, sequence.given);
  }
  EndIfDone(sequence);
}

void Scheduler::CommitPool(Sequence& sequence, std::vector<float> sum) {
  if (!std::all_of(sum.begin(), sum.end(), [](float x) { return std::isfinite(x); })) {
    return End(sequence, FinishReason::kError, "INTERNAL: the model's hidden states were not numbers");
  }
  UpdateOf(sequence).MakeDetails().hidden_sum = std::move(sum);
  End(sequence, FinishReason::kFinished);
}

// A sequence that was preempted computes positions again whose scores it has.
void Scheduler::CommitScores(Sequence& sequence, int begin, std::vector<TokenLogprobs> scores) {
  if (std::any_of(scores.begin(), scores.end(), [](const TokenLogprobs& score) { return std::isnan(score.logprob); })) {
    return End(sequence, FinishReason::kError, "INTERNAL: the model's output was not a number");
  }
  const int end = begin + static_cast<int>(scores.size());
  sequence.at.sound = std::max(sequence.at.sound, end);
  std::vector<TokenLogprobs>& out = UpdateOf(sequence).MakeDetails().prompt_logprobs;
  out.insert(out.end(), std::make_move_iterator(scores.begin() + (sequence.scored - begin)),
             std::make_move_iterator(scores.end()));
  sequence.scored = end;
  EndIfDone(sequence);
}

void Scheduler::EndIfDone(Sequence& sequence) {
  if (sequence.scored < sequence.to_score()) return;
  const std::vector<int32_t>& stops = sequence.spec.stop_tokens;
  const bool finished = sequence.limit_reason == FinishReason::kFinished && sequence.output() >= sequence.limit;
  if (!finished && sequence.output() > 0 && std::find(stops.begin(), stops.end(), sequence.tokens.back()) != stops.end()) {
    End(sequence, FinishReason::kStopToken);
  } else if (sequence.output() >= sequence.limit) {
    End(sequence, sequence.limit_reason);
  }
}

void Scheduler::End(Sequence& sequence, FinishReason reason, std::string error) {
  SequenceUpdate& update = UpdateOf(sequence);
  update.finish = reason;
  update.output_tokens = sequence.output();
  if (!error.empty()) update.MakeDetails().error = std::move(error);
  if (sequence.active()) {
    if (reason == FinishReason::kError) {
      for (const int32_t block : sequence.at.blocks) {
        index_.Erase(block);
        pool_.SetCached(block, false);
      }
    } else {
      PublishBlocks(sequence, sequence.length());
    }
    LeaveSlot(sequence);
    active_.erase(&sequence);
  } else {
    waiting_.erase(&sequence);
  }
  deadlines_.erase({sequence.spec.deadline, sequence.spec.id});
  sequences_.erase(SequenceId{sequence.spec.id});
}

// All that happens to one sequence between two TakeUpdates in a row goes into one update.
SequenceUpdate& Scheduler::UpdateOf(Sequence& sequence) {
  if (!updates_.empty() && updates_.back().id == sequence.spec.id) return updates_.back();
  SequenceUpdate& update = updates_.emplace_back();
  update.id = sequence.spec.id;
  update.started = !sequence.started;
  if (update.started) update.cached_tokens = sequence.cached_tokens;
  sequence.started = true;
  return update;
}

int32_t Scheduler::TakeBlock() {
  const BlockPool::Taken taken = pool_.Take();
  if (taken.was_cached) index_.Erase(taken.block);
  return taken.block;
}

// Of the first `length` tokens, the full blocks whose KV is sound.
void Scheduler::PublishBlocks(const Sequence& sequence, int length) {
  if (!options_.prefix_cache) return;
  const size_t sound = std::min({length, sequence.length(), sequence.at.sound});
  const absl::Span<const int32_t> tokens = absl::MakeConstSpan(sequence.tokens).first(sound);
  for (const int32_t block : index_.Publish(sequence.spec.cache_salt, tokens, sequence.at.blocks)) {
    pool_.SetCached(block, true);
  }
}

void Scheduler::LeaveSlot(Sequence& sequence) {
  const std::vector<int32_t>& blocks = sequence.at.blocks;
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) pool_.Release(*block);
  if (sequence.at.announced) retires_.push_back({.slot = sequence.at.slot, .generation = sequence.at.generation});
  slots_[sequence.at.slot] = nullptr;
  free_slots_.push_back(sequence.at.slot);
  sequence.at = Residence{};
}

}  // namespace berth::engine
