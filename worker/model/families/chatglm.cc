#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr FieldNames kChatGlmFields = {.intermediate = "ffn_hidden_size",
                                       .layers = "num_layers",
                                       .kv_heads = "multi_query_group_num",
                                       .head_dim = "kv_channels",
                                       .vocab = "padded_vocab_size",
                                       .max_position = "seq_length",
                                       .epsilon = "layernorm_epsilon",
                                       .activation = ""};

// ChatGLM 2 and 3, and GLM-4 in that form: half of a head rotates, in neighbouring pairs, at rope_ratio times theta.
absl::StatusOr<DecoderSpec> ParseChatGlm(const HfConfig& config) {
  for (const char* field : {"add_bias_linear", "apply_residual_connection_post_layernorm", "interleaved_qkv"}) {
    BERTH_RETURN_IF_ERROR(ExpectBool(config, field, false));
  }
  for (const char* field : {"rmsnorm", "post_layer_norm", "multi_query_attention", "original_rope"}) {
    BERTH_RETURN_IF_ERROR(ExpectBool(config, field, true));
  }
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("add_qkv_bias", false));
  BERTH_ASSIGN_OR_RETURN(
      DecoderSpec spec,
      ParseLlamaLike(
          config,
          {.family = "chatglm", .qkv_bias = bias, .partial_rotary = true, .rotary_share = 0.5, .fields = kChatGlmFields}));
  BERTH_ASSIGN_OR_RETURN(const double ratio, PositiveFloatOr(config, "rope_ratio", 1));
  for (LayerSpec& layer : spec.layers) layer.attention.rope.theta *= ratio;
  return spec;
}

std::vector<WeightRule> ChatGlmRules(const DecoderSpec& spec) {
  constexpr Transform kPairs = Transform::kInterleavedRope;
  std::vector<WeightRule> rules = {
      Weight("transformer.embedding.word_embeddings.weight", Slot::kEmbed),
      Weight("transformer.encoder.layers.{}.input_layernorm.weight", Slot::kAttentionNorm),
      Weight("transformer.encoder.layers.{}.self_attention.query_key_value.weight", Slot::kQkv, kAllParts, kPairs),
      Weight("transformer.encoder.layers.{}.self_attention.query_key_value.bias", Slot::kQkvBias, kAllParts, kPairs),
      Weight("transformer.encoder.layers.{}.self_attention.dense.weight", Slot::kAttentionOut),
      Weight("transformer.encoder.layers.{}.post_attention_layernorm.weight", Slot::kMlpNorm),
      Weight("transformer.encoder.layers.{}.mlp.dense_h_to_4h.weight", Slot::kMlpUp, kAllParts),
      Weight("transformer.encoder.layers.{}.mlp.dense_4h_to_h.weight", Slot::kMlpDown),
      Weight("transformer.encoder.final_layernorm.weight", Slot::kFinalNorm),
      Ignored("transformer.rotary_pos_emb.inv_freq", "computed from rope_ratio"),
  };
  AddHeadRules(spec, "transformer.output_layer.weight", rules);
  return rules;
}

constexpr std::string_view kChatGlmArchitectures[] = {"ChatGLMModel", "ChatGLMForConditionalGeneration"};

}  // namespace

extern const Family kChatGlm;
constexpr Family kChatGlm = {
    .name = "chatglm", .architectures = kChatGlmArchitectures, .parse = ParseChatGlm, .rules = ChatGlmRules};

}  // namespace berth::model::families
