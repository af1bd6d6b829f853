#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "worker/engine/sequence.h"

namespace berth::engine {

// A snapshot for load reports and metrics; counters only grow.
struct EngineStats {
  uint64_t steps = 0;
  int running = 0;
  int waiting = 0;
  int slots = 0;
  int kv_blocks_total = 0;
  int kv_blocks_used = 0;    // held by sequences
  int kv_blocks_cached = 0;  // unreferenced, still in the prefix index
  uint64_t prompt_tokens = 0;
  uint64_t cached_prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t ring_full_waits = 0;
  absl::Duration host_time;                       // the engine thread worked on steps: all but waiting for the device
  int64_t waiting_prompt_tokens = 0;              // not yet computed
  absl::Duration step_budget = absl::Seconds(2);  // past it a step counts as stalled: max(2 s, 8 × predicted)
};

struct StepOutput {
  uint64_t step = 0;
  int tokens = 0;  // of prompts and output that the step computed; 0: updates between steps
  absl::Duration step_time;
  absl::Duration host_time;  // as EngineStats has it
  std::vector<SequenceUpdate> updates;
};

// Carries step outputs from the engine thread to the worker's I/O thread, in order. Bounded: a full ring makes the writer wait,
// which is counted and alerted on. Thread: one writer, one reader, Close from anywhere.
class StepRing {
 public:
  explicit StepRing(size_t capacity) : capacity_(capacity) {}

  // False when the ring is closed.
  bool Push(StepOutput output);
  // Everything there is. Waits while the ring is empty; false when it is closed and empty.
  bool Pop(std::vector<StepOutput>* outputs);
  void Close();
  // How often a push found the ring full; counted when the wait begins. Thread-safe.
  uint64_t full_waits() const;

 private:
  const size_t capacity_;
  mutable base::Mutex mutex_;
  base::CondVar not_empty_, not_full_;
  std::vector<StepOutput> outputs_ ABSL_GUARDED_BY(mutex_);
  uint64_t full_waits_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace berth::engine
