#pragma once

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/linear_weight.h"
#include "kernels/tensor.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/slots.h"
#include "worker/model/weights.h"

namespace berth::loader {

// Weights without memory: the norms have the spec's numbers, and there is an element per layer.
model::DecoderWeights EmptyWeights(const model::DecoderSpec& spec);

// The member that a slot names; null when the slot is a vector. `layer` is ignored for slots that are not per layer.
kernels::LinearWeight* MatrixMember(model::DecoderWeights& weights, model::Slot slot, int layer);
// The same for slots that are vectors.
kernels::Tensor& VectorMember(model::DecoderWeights& weights, model::Slot slot, int layer);

// Calls `visit` for every slot that models of this spec have, and stops at the first error.
absl::Status ForEachSlot(const model::DecoderSpec& spec,
                         absl::FunctionRef<absl::Status(model::Slot slot, int layer, const model::SlotShape& shape)> visit);

}  // namespace berth::loader
