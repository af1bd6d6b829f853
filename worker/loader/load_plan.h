#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/loader/checkpoint.h"
#include "worker/loader/transforms.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/slots.h"
#include "worker/model/weight_rules.h"

namespace berth::loader {

// Which rank's share of the weights, of how many ranks.
struct Shard {
  int rank = 0;
  int size = 1;
};

// What a load does, tensor by tensor. Steps of one slot are neighbours, in the order of its parts.
struct LoadPlan {
  struct Step {
    model::Slot slot = model::Slot::kEmbed;
    int layer = 0;
    size_t tensor = 0;  // index into the checkpoint's tensors
    RowSelection selection;
  };
  struct Alias {
    model::Slot slot = model::Slot::kHead;
    model::Slot source = model::Slot::kEmbed;
    RowRange rows;
  };
  struct Duplicate {
    size_t tensor = 0;
    size_t original = 0;  // must hold the same bytes
  };

  // All steps of the slot whose first one is steps[first].
  absl::Span<const Step> SlotSteps(size_t first) const;

  std::vector<Step> steps;
  std::vector<Alias> aliases;
  std::vector<Duplicate> duplicates;
};

// Pure. Demands an exact cover: every slot of the spec filled once, every tensor used, shapes as the spec has them.
// INVALID_ARGUMENT names the tensor that is missing, doubled, of another shape or unused, behind the path of the file that has
// it.
absl::StatusOr<LoadPlan> BuildPlan(const model::DecoderSpec& spec, absl::Span<const model::WeightRule> rules,
                                   const CheckpointIndex& index, const Shard& shard);

}  // namespace berth::loader
