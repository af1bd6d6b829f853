#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

namespace berth::model::families {

// Where llama-like families have biases.
struct Biases {
  bool qkv = false;
  bool attention_out = false;
  bool mlp = false;
};

// The spec of a llama-like decoder: RMS norms before attention and MLP, rotary embedding over whole heads, grouped-query
// attention, a gated MLP. Reads the fields that Hugging Face's configurations of such models share; one that is absent has the
// value that their configuration classes give it.
absl::StatusOr<DecoderSpec> ParseLlamaLike(std::string_view family, const HfConfig& config, const Biases& biases);

// Gives layers first_layer … the window `sliding_window`, when that field is there. `layer_types`, when there, must say the
// same.
absl::Status ApplySlidingWindow(const HfConfig& config, size_t first_layer, DecoderSpec& spec);

// The names of LlamaForCausalLM and of the many classes that took them over.
std::vector<WeightRule> LlamaNames(const DecoderSpec& spec);

}  // namespace berth::model::families
