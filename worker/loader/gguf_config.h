#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "worker/loader/gguf.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

namespace berth::loader {

// What GGUF says about a model, in the words that Berth's families read.

// The configuration. Some things have no key and follow from the tensors, as the format means them: the head is tied when there
// is no output.weight, attention and MLP have biases when those of layer 0 are there, and rope_freqs.weight stands for llama3
// scaling. UNIMPLEMENTED names an architecture, a key or a rotary scaling that is not supported; INVALID_ARGUMENT a key that is
// missing or of a wrong value.
absl::StatusOr<model::HfConfig> TranslateGgufConfig(const GgufFile& file);

// GGUF's tensor names, and what its converters did to the tensors.
absl::StatusOr<std::vector<model::WeightRule>> GgufRules(const GgufMetadata& metadata, const model::DecoderSpec& spec);

// GGUF stacks experts in a third dimension and drops one of size 1: makes the shapes those of the slots.
void FlattenGgufShapes(CheckpointIndex& tensors);

}  // namespace berth::loader
