#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr FieldNames kDbrxFields = {.hidden = "d_model",
                                    .intermediate = "ffn_config.ffn_hidden_size",
                                    .layers = "n_layers",
                                    .heads = "n_heads",
                                    .kv_heads = "attn_config.kv_n_heads",
                                    .max_position = "max_seq_len",
                                    .epsilon = "",
                                    .activation = "ffn_config.ffn_act_fn.name",
                                    .theta = "attn_config.rope_theta"};

// DBRX: LayerNorms without biases, q, k and v clipped, experts whose weights are divided by their sum.
absl::StatusOr<DecoderSpec> ParseDbrx(const HfConfig& base) {
  HfConfig config = base;
  if (!config.Has("ffn_config.ffn_act_fn")) config.Set("ffn_config.ffn_act_fn.name", std::string("silu"));
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "dbrx", .fields = kDbrxFields}));
  spec.final_norm.kind = kernels::NormKind::kLayer;
  BERTH_ASSIGN_OR_RETURN(const double clip, PositiveFloat(config, "attn_config.clip_qkv"));
  MoeSpec moe{.routing = {.renormalize = true}, .intermediate = spec.layers[0].mlp.intermediate};
  BERTH_ASSIGN_OR_RETURN(moe.routing.experts, Dimension(config, "ffn_config.moe_num_experts", kMaxExperts));
  BERTH_ASSIGN_OR_RETURN(moe.routing.top_k, Dimension(config, "ffn_config.moe_top_k", moe.routing.experts));
  BERTH_ASSIGN_OR_RETURN(const double p, config.FloatOr("ffn_config.moe_normalize_expert_weights", 1));
  if (p != 1) return config.Error("ffn_config.moe_normalize_expert_weights", "want 1", absl::StatusCode::kUnimplemented);
  for (LayerSpec& layer : spec.layers) {
    layer.attention_norm = layer.mlp_norm = spec.final_norm;
    layer.attention.clip = static_cast<float>(clip);
  }
  MakeMoe(moe, 0, std::vector<bool>(spec.layers.size(), true), spec);
  return spec;
}

std::vector<WeightRule> DbrxRules(const DecoderSpec& spec) {
  const int experts = spec.layers[0].moe.routing.experts;
  std::vector<WeightRule> rules = {
      Weight("transformer.wte.weight", Slot::kEmbed),
      Weight("transformer.blocks.{}.norm_attn_norm.norm_1.weight", Slot::kAttentionNorm),
      Weight("transformer.blocks.{}.norm_attn_norm.attn.Wqkv.weight", Slot::kQkv, kAllParts),
      Weight("transformer.blocks.{}.norm_attn_norm.attn.out_proj.weight", Slot::kAttentionOut),
      Weight("transformer.blocks.{}.norm_attn_norm.norm_2.weight", Slot::kMlpNorm),
      Weight("transformer.blocks.{}.ffn.router.layer.weight", Slot::kRouter),
      ExpertWeight("transformer.blocks.{}.ffn.experts.mlp.w1", Slot::kExpertsUp, 0, experts),
      ExpertWeight("transformer.blocks.{}.ffn.experts.mlp.v1", Slot::kExpertsUp, experts, experts),
      ExpertWeight("transformer.blocks.{}.ffn.experts.mlp.w2", Slot::kExpertsDown, 0, experts, Transform::kTransposedParts),
      Weight("transformer.norm_f.weight", Slot::kFinalNorm),
  };
  AddHeadRules(spec, "lm_head.weight", rules);
  return rules;
}

constexpr std::string_view kDbrxArchitectures[] = {"DbrxForCausalLM"};

}  // namespace

extern const Family kDbrx;
constexpr Family kDbrx = {.name = "dbrx", .architectures = kDbrxArchitectures, .parse = ParseDbrx, .rules = DbrxRules};

}  // namespace berth::model::families
