#pragma once

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "worker/engine/executor.h"
#include "worker/engine/sequence.h"
#include "worker/engine/step_ring.h"

namespace berth::engine {

struct EngineOptions {
  int max_length = 0;   // --session-len; 0: the executor's limit
  int max_batch = 0;    // sequences active at once; 0: the executor's slots
  int step_tokens = 0;  // token budget of a step; 0: the executor's limit
  int depth = 1;        // plans in flight; at most the executor's
  bool prefix_cache = true;
  size_t ring_capacity = 1024;  // steps; at least 1 s of them
  absl::Status Validate() const;
};

// The thread that plans, runs and commits steps. Commands come in through an inbox; results leave through output() as one batch
// per step. Every accepted sequence gets exactly one update with a finish reason, also on Stop and on a device fault.
class Engine {
 public:
  Engine(const EngineOptions& options, std::unique_ptr<Executor> executor, const base::Clock& clock);
  ~Engine();  // Stop(), however long the step in flight takes

  void Start();
  // Cancels what runs, delivers the last updates, closes output() and joins. The ring's reader must go on reading. False: the
  // step in flight is past its budget, and nothing is joined; unless it ends after all, the destructor will not return.
  bool Stop();

  // The following may be called from any thread and never block.

  // INVALID_ARGUMENT for what can never run: no tokens, prompt and one token beyond max_length or the KV pool, ids out of
  // range. max_tokens is cut to what max_length leaves.
  absl::Status Add(SequenceSpec spec);
  // No effect on unknown ids. The last update says kCancelled; KV is free within the step in flight plus one.
  void Cancel(SequenceId id);
  // Ends the sequence so that exactly `output_tokens` tokens of output remain, whatever steps did meanwhile.
  void Finish(SequenceId id, int output_tokens);
  EngineStats Stats() const;

  StepRing& output();
  const ExecutorLimits& limits() const;
  // Runs once on the engine thread when the executor failed, after the last updates were delivered. Set before Start.
  void OnDeviceFault(absl::AnyInvocable<void(const absl::Status&)> callback);
  // When the step in flight began on the clock's monotonic scale, and its budget; for the stall watch. False: none in flight.
  bool StepInFlight(absl::Duration* since, absl::Duration* budget) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace berth::engine
