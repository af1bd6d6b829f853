#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr FieldNames kFalconFields = {.kv_heads = "", .epsilon = "layer_norm_epsilon", .activation = "activation"};

absl::Status ParseFalconAttention(const HfConfig& config, bool grouped, DecoderSpec& spec) {
  AttentionSpec attention = spec.layers[0].attention;
  BERTH_ASSIGN_OR_RETURN(const bool multi_query, config.BoolOr("multi_query", true));
  if (grouped) {
    const char* const field = config.Has("num_kv_heads") ? "num_kv_heads" : "n_head_kv";
    BERTH_ASSIGN_OR_RETURN(attention.kv_heads, Dimension(config, field, attention.q_heads));
    if (attention.q_heads % attention.kv_heads != 0) return config.Error(field, "want a divisor of the number of heads");
  } else if (multi_query) {
    attention.kv_heads = 1;
  }
  BERTH_ASSIGN_OR_RETURN(const bool alibi, config.BoolOr("alibi", false));
  if (alibi) {
    attention.rope = {};
    attention.alibi = attention.scale;  // the bias is scaled like the scores
  }
  for (LayerSpec& layer : spec.layers) layer.attention = attention;
  return absl::OkStatus();
}

// Falcon: LayerNorms, no gate. 7B and 40B run attention and MLP side by side, behind one norm or one each; RW one after the
// other.
absl::StatusOr<DecoderSpec> ParseFalcon(const HfConfig& base) {
  HfConfig config = base;
  FieldNames fields = kFalconFields;
  if (config.Has("n_layer")) fields.layers = "n_layer";  // as RWForCausalLM spells them
  if (config.Has("n_head")) fields.heads = "n_head";
  BERTH_ASSIGN_OR_RETURN(const int64_t hidden, config.Int("hidden_size"));
  if (!config.Has("ffn_hidden_size")) config.Set("ffn_hidden_size", 4 * hidden);
  if (!config.Has("max_position_embeddings")) config.Set("max_position_embeddings", int64_t{2048});
  if (!config.Has("activation")) config.Set("activation", std::string("gelu"));
  fields.intermediate = "ffn_hidden_size";
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("bias", false));
  BERTH_ASSIGN_OR_RETURN(const bool grouped, config.BoolOr("new_decoder_architecture", config.Has("n_head_kv")));
  BERTH_ASSIGN_OR_RETURN(const bool parallel, config.BoolOr("parallel_attn", true));
  BERTH_ASSIGN_OR_RETURN(const int64_t norms, config.IntOr("num_ln_in_parallel_attn", grouped ? 2 : 1));
  BERTH_ASSIGN_OR_RETURN(
      DecoderSpec spec,
      ParseLlamaLike(
          config,
          {.family = "falcon", .qkv_bias = bias, .out_bias = bias, .mlp_bias = bias, .tied_head = true, .fields = fields}));
  spec.final_norm.kind = kernels::NormKind::kLayer;
  spec.final_norm.bias = true;
  for (LayerSpec& layer : spec.layers) {
    layer.attention_norm = layer.mlp_norm = spec.final_norm;
    layer.mlp.gated = false;
    layer.parallel = parallel || grouped;
    layer.shared_norm = layer.parallel && norms == 1;
  }
  BERTH_RETURN_IF_ERROR(ParseFalconAttention(config, grouped, spec));
  return spec;
}

std::vector<WeightRule> FalconRules(const DecoderSpec& spec) {
  const AttentionSpec& attention = spec.layers[0].attention;
  // With one kv head its q heads, its k and its v are all q, k and v already.
  const Transform qkv = attention.kv_heads == 1 ? Transform::kCopy : Transform::kGroupedQkv;
  const bool two_norms = spec.layers[0].parallel && !spec.layers[0].shared_norm;
  std::vector<WeightRule> rules = {
      Weight("transformer.word_embeddings.weight", Slot::kEmbed),
      Weight("transformer.h.{}.self_attention.query_key_value.weight", Slot::kQkv, kAllParts, qkv),
      Weight("transformer.h.{}.self_attention.query_key_value.bias", Slot::kQkvBias, kAllParts, qkv),
      Weight("transformer.h.{}.self_attention.dense.weight", Slot::kAttentionOut),
      Weight("transformer.h.{}.self_attention.dense.bias", Slot::kAttentionOutBias),
      Weight(two_norms ? "transformer.h.{}.ln_attn.weight" : "transformer.h.{}.input_layernorm.weight", Slot::kAttentionNorm),
      Weight(two_norms ? "transformer.h.{}.ln_attn.bias" : "transformer.h.{}.input_layernorm.bias", Slot::kAttentionNormBias),
      Weight(two_norms ? "transformer.h.{}.ln_mlp.weight" : "transformer.h.{}.post_attention_layernorm.weight", Slot::kMlpNorm),
      Weight(two_norms ? "transformer.h.{}.ln_mlp.bias" : "transformer.h.{}.post_attention_layernorm.bias", Slot::kMlpNormBias),
      Weight("transformer.h.{}.mlp.dense_h_to_4h.weight", Slot::kMlpUp),
      Weight("transformer.h.{}.mlp.dense_h_to_4h.bias", Slot::kMlpUpBias),
      Weight("transformer.h.{}.mlp.dense_4h_to_h.weight", Slot::kMlpDown),
      Weight("transformer.h.{}.mlp.dense_4h_to_h.bias", Slot::kMlpDownBias),
      Weight("transformer.ln_f.weight", Slot::kFinalNorm),
      Weight("transformer.ln_f.bias", Slot::kFinalNormBias),
  };
  AddHeadRules(spec, "lm_head.weight", rules);
  return rules;
}

constexpr std::string_view kFalconArchitectures[] = {"FalconForCausalLM", "RWForCausalLM"};

}  // namespace

extern const Family kFalcon;
constexpr Family kFalcon = {
    .name = "falcon", .architectures = kFalconArchitectures, .parse = ParseFalcon, .rules = FalconRules};

}  // namespace berth::model::families
