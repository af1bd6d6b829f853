#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "worker/loader/checkpoint.h"
#include "worker/loader/load_plan.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/weights.h"

namespace berth::loader {

// Weights and the packed buffers that some of them lie in; the others lie in the checkpoint's files.
struct MaterializedWeights {
  model::DecoderWeights weights;
  std::vector<std::shared_ptr<const void>> memory;
};

// Carries out a plan: rows that keep their order stay where the file has them, all others are copied into buffers of
// `allocator`; vectors become f32. INVALID_ARGUMENT for a duplicate that differs from its original.
absl::StatusOr<MaterializedWeights> Materialize(const model::DecoderSpec& spec, const LoadPlan& plan,
                                                const CheckpointIndex& index, kernels::Allocator& allocator);

}  // namespace berth::loader
