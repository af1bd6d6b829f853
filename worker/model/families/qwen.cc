#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr FieldNames kQwenFields = {.kv_heads = "",
                                    .head_dim = "kv_channels",
                                    .max_position = "seq_length",
                                    .epsilon = "layer_norm_epsilon",
                                    .activation = "",
                                    .theta = "rotary_emb_base"};

// Qwen 1: intermediate_size counts gate and up; beyond seq_length queries grow with the logarithm of the position.
absl::StatusOr<DecoderSpec> ParseQwen(const HfConfig& config) {
  BERTH_RETURN_IF_ERROR(ExpectBool(config, "no_bias", true));
  BERTH_RETURN_IF_ERROR(ExpectBool(config, "scale_attn_weights", true));
  BERTH_ASSIGN_OR_RETURN(const double rotary_share, PositiveFloatOr(config, "rotary_pct", 1));
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "qwen",
                                                                   .qkv_bias = true,
                                                                   .partial_rotary = true,
                                                                   .rotary_share = static_cast<float>(rotary_share),
                                                                   .fields = kQwenFields}));
  if (spec.layers[0].mlp.intermediate % 2 != 0) return config.Error("intermediate_size", "want even");
  BERTH_ASSIGN_OR_RETURN(const bool grow, config.BoolOr("use_logn_attn", true));
  BERTH_ASSIGN_OR_RETURN(const bool dynamic, config.BoolOr("use_dynamic_ntk", true));
  const int original = spec.max_position;
  RopeSpec rope = spec.layers[0].attention.rope;
  if (dynamic) {
    BERTH_ASSIGN_OR_RETURN(const int reach, config.Has("max_position_embeddings") ? Dimension(config, "max_position_embeddings")
                                                                                  : absl::StatusOr<int>(original));
    SetDynamicRope(2, reach, spec, rope);
  }
  for (LayerSpec& layer : spec.layers) {
    layer.mlp.intermediate /= 2;
    if (grow) layer.attention.log_length = original;
    layer.attention.rope = rope;
  }
  return spec;
}

std::vector<WeightRule> QwenRules(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = {
      Weight("transformer.wte.weight", Slot::kEmbed),
      Weight("transformer.h.{}.ln_1.weight", Slot::kAttentionNorm),
      Weight("transformer.h.{}.attn.c_attn.weight", Slot::kQkv, kAllParts),
      Weight("transformer.h.{}.attn.c_attn.bias", Slot::kQkvBias, kAllParts),
      Weight("transformer.h.{}.attn.c_proj.weight", Slot::kAttentionOut),
      Weight("transformer.h.{}.ln_2.weight", Slot::kMlpNorm),
      Weight("transformer.h.{}.mlp.w2.weight", Slot::kMlpUp, 0),
      Weight("transformer.h.{}.mlp.w1.weight", Slot::kMlpUp, 1),
      Weight("transformer.h.{}.mlp.c_proj.weight", Slot::kMlpDown),
      Weight("transformer.ln_f.weight", Slot::kFinalNorm),
      Ignored("transformer.rotary_emb.inv_freq", "computed from rotary_emb_base"),
  };
  AddHeadRules(spec, "lm_head.weight", rules);
  return rules;
}

constexpr std::string_view kQwenArchitectures[] = {"QWenLMHeadModel"};

}  // namespace

extern const Family kQwen;
constexpr Family kQwen = {.name = "qwen", .architectures = kQwenArchitectures, .parse = ParseQwen, .rules = QwenRules};

}  // namespace berth::model::families
