#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

namespace berth::model::families {

inline constexpr int64_t kMaxDimension = int64_t{1} << 24;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxExperts = 4096;

// A whole number from 1 to `max`.
absl::StatusOr<int> Dimension(const HfConfig& config, std::string_view name, int64_t max = kMaxDimension);
absl::StatusOr<double> PositiveFloat(const HfConfig& config, std::string_view name);
absl::StatusOr<double> PositiveFloatOr(const HfConfig& config, std::string_view name, double absent);

// OK when the field is absent or equals `want`: another value would change the computation, and no code here computes it.
absl::Status ExpectBool(const HfConfig& config, std::string_view name, bool want);
absl::Status ExpectString(const HfConfig& config, std::string_view name, std::string_view want);

// silu, gelu, …, from the field `name`.
absl::StatusOr<kernels::Activation> ParseActivation(const HfConfig& config, std::string_view name);

// What the fields of a llama-like configuration are called.
struct FieldNames {
  std::string_view hidden = "hidden_size";
  std::string_view intermediate = "intermediate_size";
  std::string_view layers = "num_hidden_layers";
  std::string_view heads = "num_attention_heads";
  std::string_view kv_heads = "num_key_value_heads";  // absent: as many as heads
  std::string_view head_dim = "head_dim";             // absent: hidden / heads
  std::string_view vocab = "vocab_size";
  std::string_view max_position = "max_position_embeddings";
  std::string_view epsilon = "rms_norm_eps";   // empty: 1e-5
  std::string_view activation = "hidden_act";  // empty: silu
  std::string_view theta = "rope_theta";
  std::string_view rope_parameters = "rope_parameters";
};

// What llama-like families differ in.
struct LlamaLike {
  std::string_view family;
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;
  bool partial_rotary = false;  // partial_rotary_factor is read, else it must be 1
  float rotary_share = 1;       // of a head's dimensions, where the configuration does not say
  double theta = 10000;         // where the configuration does not say
  bool tied_head = false;       // where the configuration does not say
  FieldNames fields;
};

// The spec of a llama-like decoder: RMS norms before attention and MLP, rotary embedding, grouped-query attention, a gated MLP.
// Reads the fields that Hugging Face's configurations of such models share; one that is absent has the value that their
// configuration classes give it.
absl::StatusOr<DecoderSpec> ParseLlamaLike(const HfConfig& config, const LlamaLike& family);

// Sets spec.layers' rotary embedding from rope_theta, rope_scaling and partial_rotary_factor in their old and new spellings,
// which must mean the same where both are there; may lengthen or shorten spec.max_position to what the scaling reaches.
absl::Status ParseRope(const HfConfig& config, const LlamaLike& family, DecoderSpec& spec);

// Dynamic NTK up to `reach` tokens: a variant for every doubling of the original length.
void SetDynamicRope(double factor, int reach, DecoderSpec& spec, RopeSpec& rope);
// The same up to the original length times the field `factor`, which is 1 where it is absent.
absl::Status ParseDynamicRope(const HfConfig& config, std::string_view factor, DecoderSpec& spec, RopeSpec& rope);

// What yarn with mscale_all_dim multiplies queries and keys by; 1 for every other scaling. Of ParseRope's result.
absl::StatusOr<double> YarnMagnitude(const HfConfig& config, const RopeSpec& rope);

// Makes every layer's attention latent, as DeepSeek-V2's configuration says it; its two norms have an epsilon of their own, and
// yarn's magnitude acts on the scores. Of a spec whose rotary embedding is qk_rope_head_dim wide.
absl::Status ParseLatent(const HfConfig& config, DecoderSpec& spec);
void AddLatentRules(std::vector<WeightRule>& rules);

// `layer_types`, when there, must say which layers of spec have a window.
absl::Status CheckLayerTypes(const HfConfig& config, const DecoderSpec& spec);
// Gives layers first_layer … the window `sliding_window`, when that field is there, and checks the layers' types.
absl::Status ApplySlidingWindow(const HfConfig& config, size_t first_layer, DecoderSpec& spec);
// Qwen's way: only when use_sliding_window says so, from layer max_window_layers on.
absl::Status ApplyUpperLayersWindow(const HfConfig& config, DecoderSpec& spec);

// Makes the layers that `is_moe` says mixtures of experts, without shared ones unless spec says so afterwards.
void MakeMoe(const MoeSpec& moe, int shared_intermediate, const std::vector<bool>& is_moe, DecoderSpec& spec);

// The names of routed experts in llama-like MLPs.
void AddExpertRules(const DecoderSpec& spec, std::vector<WeightRule>& rules);

// The names of LlamaForCausalLM and of the many classes that took them over.
std::vector<WeightRule> LlamaNames(const DecoderSpec& spec);

}  // namespace berth::model::families
