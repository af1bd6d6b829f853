#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/engine/block_pool.h"
#include "worker/engine/executor.h"
#include "worker/engine/prefix_index.h"
#include "worker/engine/sequence.h"
#include "worker/engine/step_cost.h"
#include "worker/engine/step_plan.h"
#include "worker/engine/step_ring.h"

namespace berth::engine {

struct SchedulerOptions {
  int slots = 0;
  int kv_blocks = 0;
  int step_tokens = 0;  // at least 2, so that prompts and decode rows both get a share
  bool prefix_cache = true;
  StepCost cost;  // unknown: only step_tokens bounds a step
};

// Decides what each step computes. Plan() advances lengths and reserves blocks, Commit() fills in tokens and retires, so that
// several steps may be planned before the first commits. A sequence ends the moment that is known; what steps in flight still
// compute for it is dropped by (slot, generation). No I/O, clock or device. Thread: engine thread only.
//
// Order: higher priority first, then first come first served. Steps mix decode rows and prompt chunks; when both want more than
// the budget, prompts are sure of a quarter of it and decode rows take turns. Of the prompts, the first in order is sure of
// half their share and the rest goes to those with the least left, so that a long prompt does not hold up short ones. Where the
// cost of steps is known, decode rows are not held up by few prompts: these take no longer than the decode rows, n prompts n²/8
// times as long from three on, for of many each waits for the others; prompts that are cut for it get whole tiles of products,
// the nearest number of them. There, too, few tokens of prompts beside decode rows that fill tiles wait up to three steps for
// more, unless their priority is above 0. A sequence is admitted when the blocks of all its tokens are available and one is
// left for each running sequence; when blocks run out the last running sequence in order is preempted, and recomputed later.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // `spec` passed CheckSpec for these options' blocks, and its id is new.
  void Add(SequenceSpec spec);
  void Cancel(SequenceId id);
  // Ends the sequence with exactly `output_tokens` tokens of output; when it has fewer yet, as soon as it has them, unless it
  // ends for another reason before.
  void Finish(SequenceId id, int output_tokens);
  // Ends every sequence. `error` goes with kError.
  void EndAll(FinishReason reason, const std::string& error);

  // The next step; empty when nothing can be computed before a commit or a new sequence. `now`: ends what is past its deadline.
  StepPlan Plan(absl::Duration now);
  // The results of the oldest step in flight. Returns all updates since the last call.
  std::vector<SequenceUpdate> Commit(StepResult result);
  // Updates that no commit returned yet, of sequences that ended between steps.
  std::vector<SequenceUpdate> TakeUpdates();

  bool idle() const { return sequences_.empty(); }
  bool has_work() const;                // some sequence has tokens that no step computes yet
  absl::Duration NextDeadline() const;  // infinite when no sequence has one
  EngineStats stats() const;            // without what the engine adds
  // INTERNAL with the first thing that does not add up. Slow: for tests.
  absl::Status CheckInvariants() const;

 private:
  // What a sequence has only while it is active.
  struct Residence {
    int slot = -1;
    uint32_t generation = 0;
    std::vector<int32_t> blocks;
    int blocks_sent = 0;     // the device knows these
    int planned = 0;         // positions whose KV the cache held or a step computes
    int computed = 0;        // … of steps that have committed
    int sound = 0;           // … and from which a token was drawn since: a NaN would have shown
    int drawing = 0;         // tokens that steps in flight draw
    int prompt_steps = 0;    // planned with a part of its prompt to do
    bool announced = false;  // the device knows the sequence
    bool decoding = false;   // the sequence's last token is the one that its slot sampled last
    uint64_t turn = 0;       // grows with every row of any sequence
  };
  // What every step needs of a sequence comes first, so that it lies in few cache lines.
  struct alignas(64) Sequence {
    Residence at;
    std::vector<int32_t> tokens;  // given, then drawn
    uint64_t order = 0;
    int limit = 0;  // output tokens at which it ends for limit_reason
    FinishReason limit_reason = FinishReason::kLength;
    bool started = false;        // an update has left
    bool admitted = false;       // at least once
    bool prompt_cached = false;  // the given tokens' full blocks were published
    int given = 0;
    int cached_tokens = 0;
    int scored = 0;     // positions whose score an update has
    SequenceSpec spec;  // spec.tokens moved to tokens

    bool active() const { return at.slot >= 0; }
    int length() const { return static_cast<int>(tokens.size()); }
    int output() const { return length() - spec.prompt_length; }
    int planned_output() const { return output() + at.drawing; }
    int prompt_left() const { return at.decoding ? 0 : length() - at.planned; }
    // Positions to score, behind each of which there is a token of the prompt.
    int to_score() const { return spec.score_prompt ? spec.prompt_length - 1 : 0; }
    // The tokens whose KV may come from the cache.
    int reusable() const { return spec.pool ? 0 : scored < to_score() ? scored : length() - 1; }
    bool draws() const { return !spec.pool && limit > 0; }
  };
  struct InOrder {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return a->spec.priority != b->spec.priority ? a->spec.priority > b->spec.priority : a->order < b->order;
    }
  };
  struct Chunk {
    Sequence* sequence = nullptr;
    int count = 0;
  };
  struct FlightRow {
    int32_t slot = 0;
    uint32_t generation = 0;
    int end = 0;  // position behind the row
    bool sample = false;
    bool pooled = false;  // the last of a pooled sequence
    int score_begin = 0;  // position of the first score
    int scores = 0;
  };
  struct Flight {
    uint64_t step = 0;
    std::vector<FlightRow> rows;
  };

  // plan.cc
  void EndOverdue(absl::Duration now);
  std::vector<Sequence*> ReserveDecodes();
  bool ReserveNextBlock(Sequence& sequence);
  void Preempt(Sequence& sequence);
  void AdmitWaiting();
  bool AwaitsSharedPrompt(const Sequence& sequence) const;
  bool TryAdmit(Sequence& sequence);
  std::vector<Chunk> ShareBudget(std::vector<Sequence*> decodes) const;
  bool AwaitOthers(const std::vector<Chunk>& prompts, int64_t tokens, const StepWork& decodes) const;
  int AffordableTokens(const std::vector<Chunk>& prompts, const StepWork& decodes) const;
  int RoundToTiles(int rows, int tokens) const;
  void SharePrompts(std::vector<Chunk> prompts, int budget, std::vector<Chunk>& chunks) const;
  StepPlan Emit(const std::vector<Chunk>& chunks);
  void EmitRow(const Chunk& chunk, StepPlanBuilder& builder, Flight& flight);

  // scheduler.cc
  Sequence* Lookup(SequenceId id) const;
  void CommitToken(Sequence& sequence, const RowResult& result);
  void CommitPool(Sequence& sequence, std::vector<float> sum);
  void CommitScores(Sequence& sequence, int begin, std::vector<TokenLogprobs> scores);
  void EndIfDone(Sequence& sequence);
  void End(Sequence& sequence, FinishReason reason, std::string error = {});
  SequenceUpdate& UpdateOf(Sequence& sequence);
  int32_t TakeBlock();
  void PublishBlocks(const Sequence& sequence, int length);
  void LeaveSlot(Sequence& sequence);

  // invariants.cc
  absl::Status CheckSlots() const;
  absl::Status CheckBlocks() const;
  absl::Status CheckSequence(const Sequence& sequence) const;

  const SchedulerOptions options_;
  BlockPool pool_;
  PrefixIndex index_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  absl::btree_set<Sequence*, InOrder> waiting_, active_;
  std::set<std::pair<absl::Duration, SequenceId>> deadlines_;  // finite ones
  std::vector<Sequence*> slots_;
  std::vector<uint32_t> generations_;  // of each slot's latest sequence
  std::vector<int> free_slots_;
  std::vector<RetireRecord> retires_;  // for the next plan
  std::deque<Flight> flights_;
  std::vector<SequenceUpdate> updates_;
  uint64_t next_order_ = 1;
  uint64_t step_ = 0, turn_ = 0;
  EngineStats counters_;
};

}  // namespace berth::engine
