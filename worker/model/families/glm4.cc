#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// GLM-4 as transformers has it: half of a head rotates, in neighbouring pairs; GLM-4-0414 norms what attention and MLP give.
absl::StatusOr<DecoderSpec> ParseGlm4(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> architectures, config.Strings("architectures"));
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("attention_bias", false));
  BERTH_ASSIGN_OR_RETURN(
      DecoderSpec spec,
      ParseLlamaLike(config, {.family = "glm4", .qkv_bias = bias, .partial_rotary = true, .rotary_share = 0.5}));
  for (LayerSpec& layer : spec.layers) {
    layer.attention_post_norm = layer.mlp_post_norm = architectures.front() == "Glm4ForCausalLM";
  }
  return spec;
}

std::vector<WeightRule> Glm4Rules(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = LlamaNames(spec);
  for (WeightRule& rule : rules) {
    const bool qk = (rule.slot == Slot::kQkv || rule.slot == Slot::kQkvBias) && rule.part < 2;
    if (qk) rule.transform = Transform::kInterleavedRope;
  }
  rules.push_back(Weight("model.layers.{}.mlp.gate_up_proj.weight", Slot::kMlpUp, kAllParts));
  rules.push_back(Weight("model.layers.{}.post_self_attn_layernorm.weight", Slot::kAttentionPostNorm));
  rules.push_back(Weight("model.layers.{}.post_mlp_layernorm.weight", Slot::kMlpPostNorm));
  return rules;
}

constexpr std::string_view kGlm4Architectures[] = {"GlmForCausalLM", "Glm4ForCausalLM"};

}  // namespace

extern const Family kGlm4;
constexpr Family kGlm4 = {.name = "glm4", .architectures = kGlm4Architectures, .parse = ParseGlm4, .rules = Glm4Rules};

}  // namespace berth::model::families
