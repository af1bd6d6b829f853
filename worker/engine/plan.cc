// The half of Scheduler that plans a step.

#include <algorithm>
#include <utility>

#include "absl/types/span.h"
#include "base/check.h"
#include "worker/engine/scheduler.h"

namespace berth::engine {
namespace {

// Prompts wait for others until they have so many tiles of tokens together, for so many steps, beside decode rows that take no
// longer than so many tiles.
constexpr int kJointTiles = 3, kPatience = 3, kTilesOfStep = 8;

int BlocksFor(int tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

}  // namespace

StepPlan Scheduler::Plan(absl::Duration now) {
  EndOverdue(now);
  // Running sequences take their blocks before new ones do.
  std::vector<Sequence*> decodes = ReserveDecodes();
  AdmitWaiting();
  const std::vector<Chunk> chunks = ShareBudget(std::move(decodes));
  return chunks.empty() ? StepPlan() : Emit(chunks);
}

void Scheduler::EndOverdue(absl::Duration now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    End(*Lookup(deadlines_.begin()->second), FinishReason::kDeadline);
  }
}

// The sequences that can decode one more token, each with a block to write to.
std::vector<Scheduler::Sequence*> Scheduler::ReserveDecodes() {
  std::vector<Sequence*> decodes;
  decodes.reserve(active_.size());
  // Preemption takes from the end of the order, so whatever is collected here stays active.
  for (Sequence* sequence : std::vector<Sequence*>(active_.begin(), active_.end())) {
    const bool wants = sequence->active() && sequence->at.decoding && sequence->planned_output() < sequence->limit;
    // A mask needs the tokens before it.
    const bool awaits_token = sequence->spec.constraint != nullptr && sequence->at.drawing > 0;
    if (wants && !awaits_token && ReserveNextBlock(*sequence)) decodes.push_back(sequence);
  }
  return decodes;
}

bool Scheduler::ReserveNextBlock(Sequence& sequence) {
  if (sequence.at.planned < static_cast<int>(sequence.at.blocks.size()) * kBlockTokens) return true;
  while (pool_.available() == 0) {
    if (pool_.quarantined() > 0) return false;  // there will be blocks when the steps in flight have committed
    Sequence& victim = **active_.rbegin();
    Preempt(victim);
    if (&victim == &sequence) return false;
  }
  sequence.at.blocks.push_back(TakeBlock());
  return true;
}

void Scheduler::Preempt(Sequence& sequence) {
  ++counters_.preemptions;
  active_.erase(&sequence);
  LeaveSlot(sequence);
  waiting_.insert(&sequence);
}

void Scheduler::AdmitWaiting() {
  for (auto next = waiting_.begin(); next != waiting_.end() && !free_slots_.empty();) {
    Sequence& sequence = **next;
    if (AwaitsSharedPrompt(sequence)) {
      ++next;
      continue;
    }
    if (!TryAdmit(sequence)) return;  // who comes later must not overtake
    next = waiting_.erase(next);
    active_.insert(&sequence);
  }
}

bool Scheduler::AwaitsSharedPrompt(const Sequence& sequence) const {
  if (sequence.spec.share_prompt_of == 0 || !options_.prefix_cache || sequence.length() <= kBlockTokens) return false;
  const Sequence* other = Lookup(sequence.spec.share_prompt_of);
  // Only ever of one that is before it in order, so no two await each other.
  return other != nullptr && InOrder()(other, &sequence) && !other->prompt_cached;
}

// All or nothing: the blocks of all tokens it has, leaving one for each running sequence to grow into.
bool Scheduler::TryAdmit(Sequence& sequence) {
  std::vector<int32_t> hits;
  if (options_.prefix_cache) {
    hits = index_.Find(sequence.spec.cache_salt, sequence.tokens, sequence.reusable() / kBlockTokens);
  }
  const int fresh = BlocksFor(sequence.length()) - static_cast<int>(hits.size());
  const auto revived = std::count_if(hits.begin(), hits.end(), [this](int32_t block) { return pool_.is_available(block); });
  if (fresh + revived + static_cast<int>(active_.size()) > pool_.available()) return false;

  Residence& at = sequence.at;
  at.slot = free_slots_.back();
  free_slots_.pop_back();
  at.generation = ++generations_[at.slot];
  slots_[at.slot] = &sequence;
  for (const int32_t block : hits) pool_.Acquire(block);
  at.blocks = std::move(hits);
  at.planned = at.computed = at.sound = static_cast<int>(at.blocks.size()) * kBlockTokens;
  for (int i = 0; i < fresh; ++i) at.blocks.push_back(TakeBlock());
  if (!sequence.admitted) {
    sequence.admitted = true;
    sequence.cached_tokens = std::min(at.planned, sequence.spec.prompt_length);
    counters_.prompt_tokens += sequence.spec.prompt_length;
    counters_.cached_prompt_tokens += sequence.cached_tokens;
  }
  return true;
}

std::vector<Scheduler::Chunk> Scheduler::ShareBudget(std::vector<Sequence*> decodes) const {
  std::vector<Chunk> prompts;
  int64_t prompt_tokens = 0;
  const int prompt_share = std::max(options_.step_tokens / 4, 1);
  if (decodes.size() < active_.size()) {  // else all decode
    for (Sequence* sequence : active_) {
      if (sequence->prompt_left() == 0) continue;
      prompts.push_back({.sequence = sequence});
      ++sequence->at.prompt_steps;
      prompt_tokens += sequence->prompt_left();
    }
  }
  const size_t decode_share = options_.step_tokens - std::min<int64_t>(prompt_tokens, prompt_share);
  if (decodes.size() > decode_share) {
    std::stable_sort(decodes.begin(), decodes.end(),
                     [](const Sequence* a, const Sequence* b) { return a->at.turn < b->at.turn; });
    decodes.resize(decode_share);
  }
  std::vector<Chunk> chunks;
  chunks.reserve(decodes.size() + prompts.size());
  for (Sequence* sequence : decodes) chunks.push_back({.sequence = sequence, .count = 1});
  if (prompts.empty()) return chunks;
  StepWork work;
  for (const Sequence* sequence : decodes) work.Add(sequence->at.planned, 1);
  if (AwaitOthers(prompts, prompt_tokens, work)) return chunks;
  int budget = AffordableTokens(prompts, work);
  if (budget < prompt_tokens) budget = RoundToTiles(work.tokens, budget);
  SharePrompts(std::move(prompts), std::min(budget, options_.step_tokens - work.tokens), chunks);
  return chunks;
}

// Tokens that the decode rows' tiles have no room for cost a step another tile, which those that come a few steps later could
// share. Where a step takes as long as many tiles that is little, and not worth waiting for.
bool Scheduler::AwaitOthers(const std::vector<Chunk>& prompts, int64_t tokens, const StepWork& decodes) const {
  const StepCost& cost = options_.cost;
  if (!cost.known() || decodes.tokens < cost.tile) return false;
  const int room = (cost.tile - decodes.tokens % cost.tile) % cost.tile;  // in the last tile
  if (tokens <= room || tokens >= kJointTiles * cost.tile) return false;
  if (cost.Seconds(decodes) > kTilesOfStep * cost.tile * cost.token) return false;
  return std::none_of(prompts.begin(), prompts.end(), [](const Chunk& chunk) {
    return chunk.sequence->at.prompt_steps > kPatience || chunk.sequence->spec.priority > 0;
  });
}

// Of prompts, beside these decode rows.
int Scheduler::AffordableTokens(const std::vector<Chunk>& prompts, const StepWork& decodes) const {
  if (!options_.cost.known() || decodes.tokens == 0) return options_.step_tokens;
  int position = 0;
  for (const Chunk& chunk : prompts) position = std::max(position, chunk.sequence->at.planned);
  const auto count = static_cast<double>(prompts.size());
  const double shares = std::max(1.0, count * count / 8);
  const double seconds = (1 + shares) * options_.cost.Seconds(decodes);
  return std::max(options_.cost.TokensWithin(seconds, decodes, position), kBlockTokens);
}

// The tokens beside `rows` of the nearest number of whole tiles, and half a tile at least.
int Scheduler::RoundToTiles(int rows, int tokens) const {
  const int tile = options_.cost.tile, whole = (rows + tokens + tile / 2) / tile * tile - rows;
  return whole < tile / 2 ? whole + tile : whole;
}

void Scheduler::SharePrompts(std::vector<Chunk> prompts, int budget, std::vector<Chunk>& chunks) const {
  const auto give = [&budget](Chunk& chunk, int most) {
    const int count = std::min({most, budget, chunk.sequence->prompt_left() - chunk.count});
    chunk.count += count;
    budget -= count;
  };
  give(prompts.front(), (budget + 1) / 2);
  std::stable_sort(prompts.begin(), prompts.end(), [](const Chunk& a, const Chunk& b) {
    const int left_a = a.sequence->prompt_left() - a.count, left_b = b.sequence->prompt_left() - b.count;
    return a.sequence->spec.priority != b.sequence->spec.priority ? a.sequence->spec.priority > b.sequence->spec.priority
                                                                  : left_a < left_b;
  });
  for (Chunk& chunk : prompts) {
    give(chunk, budget);
    if (chunk.count > 0) chunks.push_back(chunk);
  }
}

StepPlan Scheduler::Emit(const std::vector<Chunk>& chunks) {
  StepPlanBuilder builder(++step_, chunks.size());
  for (const RetireRecord& record : retires_) builder.Retire(record);
  retires_.clear();
  Flight flight{.step = step_};
  flight.rows.reserve(chunks.size());
  for (const Chunk& chunk : chunks) EmitRow(chunk, builder, flight);
  flights_.push_back(std::move(flight));
  pool_.BeginStep(step_);
  return builder.Build();
}

void Scheduler::EmitRow(const Chunk& chunk, StepPlanBuilder& builder, Flight& flight) {
  Sequence& sequence = *chunk.sequence;
  Residence& at = sequence.at;
  if (!at.announced) builder.Admit({.slot = at.slot, .generation = at.generation}, sequence.spec, sequence.tokens);
  at.announced = true;
  for (; at.blocks_sent < static_cast<int>(at.blocks.size()); ++at.blocks_sent) {
    builder.Block({.slot = at.slot, .index = at.blocks_sent, .block = at.blocks[at.blocks_sent]});
  }
  const bool last = chunk.count == (at.decoding ? 1 : sequence.prompt_left()), pool = sequence.spec.pool;
  const bool sample = last && sequence.draws();
  RowRecord row{.slot = at.slot, .generation = at.generation, .position = at.planned, .sample = static_cast<int32_t>(sample)};
  if (pool) row.pool = last ? RowRecord::Pool::kLast : RowRecord::Pool::kAdd;
  if (sample && sequence.spec.constraint != nullptr) builder.Mask(*sequence.spec.constraint, row);
  const int score_end = std::min(at.planned + chunk.count, sequence.to_score());
  if (score_end > std::max(at.planned, sequence.scored)) row.score = score_end - at.planned;
  if (at.decoding) {
    builder.DecodeRow(row);
  } else {
    const absl::Span<const int32_t> tokens = absl::MakeConstSpan(sequence.tokens).subspan(at.planned);
    builder.Row(row, tokens.first(chunk.count), tokens.subspan(chunk.count, row.score == chunk.count ? 1 : 0));
  }
  const int begin = at.planned;
  at.planned += chunk.count;
  at.turn = ++turn_;
  if (sample) {
    at.decoding = true;
    ++at.drawing;
  }
  flight.rows.push_back({.slot = at.slot,
                         .generation = at.generation,
                         .end = at.planned,
                         .sample = sample,
                         .pooled = pool && last,
                         .score_begin = begin,
                         .scores = row.score});
}

}  // namespace berth::engine
