#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "worker/engine/step_plan.h"
#include "worker/runtime/mirror_area.h"
#include "worker/runtime/slot_table.h"

namespace berth::runtime {

// Where a runner's memory comes from.
struct RunnerMemory {
  kernels::Allocator& device;
  kernels::Allocator& staging;  // the host's side of copies; the device may read it while the host goes on
};

// A copy to queue; no bytes: none.
struct QueuedCopy {
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
};

// What a step may bring beside its rows: sequences that enter slots, logit edits and token masks. Its memory grows
// with the largest step seen, and while it grows the queue runs empty. Thread: the executor's.
class StepExtras {
 public:
  // `areas`: steps whose extras are in use at once.
  StepExtras(int vocab, int areas, kernels::Ops& ops, const RunnerMemory& memory)
      : vocab_(vocab), ops_(ops), memory_(memory), staging_(areas) {}

  // Reserves what most steps need, those too in which every slot has a mask.
  absl::Status Reserve(int slots);
  // Sets the inputs of `admit`, and the edits and the bitmask of `sample`, which stay empty when there are none. They are valid
  // until the next call for the area. RESOURCE_EXHAUSTED: no memory to grow.
  absl::StatusOr<QueuedCopy> Fill(const engine::StepPlan& plan, const LogitEdits& edits, int area, kernels::AdmitArgs* admit,
                                  kernels::SampleArgs* sample);

 private:
  struct Tensors {
    Mirrored slot, params, history_start, prompt_length, history;
    Mirrored edit_start, edit_token, edit_value;
    Mirrored bitmask;
  };

  Tensors Cut(MirrorArea& area, int64_t admits, int64_t masked, const LogitEdits& edits) const;
  absl::Status Grow(int area, size_t bytes);
  void CollectHistory(const engine::StepPlan& plan);
  void FillAdmits(const engine::StepPlan& plan, const Tensors& tensors) const;
  static void FillMasks(const engine::StepPlan& plan, const kernels::Tensor& bitmask);

  const int vocab_;
  kernels::Ops& ops_;
  const RunnerMemory memory_;
  std::vector<kernels::Buffer> staging_;
  kernels::Buffer device_;
  std::vector<int32_t> history_, history_start_;  // of the step being filled
};

}  // namespace berth::runtime
