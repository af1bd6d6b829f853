#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// Granite 3: llama whose embeddings, scores, branches and logits are scaled.
absl::StatusOr<DecoderSpec> ParseGranite(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  BERTH_ASSIGN_OR_RETURN(const bool mlp_bias, config.BoolOr("mlp_bias", false));
  BERTH_ASSIGN_OR_RETURN(
      DecoderSpec spec,
      ParseLlamaLike(config,
                     {.family = "granite", .qkv_bias = attention_bias, .out_bias = attention_bias, .mlp_bias = mlp_bias}));
  BERTH_ASSIGN_OR_RETURN(spec.embed_scale, PositiveFloatOr(config, "embedding_multiplier", 1));
  BERTH_ASSIGN_OR_RETURN(const float attention_scale, PositiveFloatOr(config, "attention_multiplier", 1));
  BERTH_ASSIGN_OR_RETURN(const float branch_scale, PositiveFloatOr(config, "residual_multiplier", 1));
  BERTH_ASSIGN_OR_RETURN(const float logits_divisor, PositiveFloatOr(config, "logits_scaling", 1));
  spec.logit_scale = 1 / logits_divisor;
  for (LayerSpec& layer : spec.layers) {
    layer.attention.scale = attention_scale;
    layer.branch_scale = branch_scale;
  }
  return spec;
}

constexpr std::string_view kGraniteArchitectures[] = {"GraniteForCausalLM"};

}  // namespace

extern const Family kGranite;
constexpr Family kGranite = {
    .name = "granite", .architectures = kGraniteArchitectures, .parse = ParseGranite, .rules = LlamaNames};

}  // namespace berth::model::families
