#include "worker/model/families/common.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::model::families {
namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 1024;

absl::StatusOr<int> Dimension(const HfConfig& config, std::string_view name, int64_t max) {
  BERTH_ASSIGN_OR_RETURN(const int64_t value, config.Int(name));
  if (value < 1 || value > max) return config.Error(name, absl::StrCat("want 1 to ", max));
  return static_cast<int>(value);
}

absl::StatusOr<double> PositiveFloat(const HfConfig& config, std::string_view name) {
  BERTH_ASSIGN_OR_RETURN(const double value, config.Float(name));
  if (!(value > 0) || !std::isfinite(value)) return config.Error(name, "want a positive number");
  return value;
}

absl::StatusOr<kernels::Activation> ParseActivation(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const std::string name, config.String("hidden_act"));
  if (name == "silu" || name == "swish") return kernels::Activation::kSilu;
  if (name == "gelu") return kernels::Activation::kGelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return kernels::Activation::kGeluTanh;
  if (name == "relu") return kernels::Activation::kRelu;
  return config.Error("hidden_act", "want silu, gelu, gelu_pytorch_tanh or relu");
}

// transformers 5 keeps theta and scaling together in rope_parameters; before, they were rope_theta and rope_scaling, whose type
// was first called "type", then "rope_type".
absl::StatusOr<RopeSpec> ParseRope(const HfConfig& config, int head_dim) {
  RopeSpec rope{.rotary_dim = head_dim};
  const bool together = config.Has("rope_parameters");
  const std::string scaling = together ? "rope_parameters" : "rope_scaling";
  const std::string theta = together ? "rope_parameters.rope_theta" : "rope_theta";
  if (config.Has(theta)) {
    BERTH_ASSIGN_OR_RETURN(rope.theta, PositiveFloat(config, theta));
  }
  if (!config.Has(scaling)) return rope;

  const std::string type_field = absl::StrCat(scaling, config.Has(scaling + ".rope_type") ? ".rope_type" : ".type");
  BERTH_ASSIGN_OR_RETURN(const std::string type, config.String(type_field));
  if (type == "default" || type == "none") return rope;
  if (type != "linear" && type != "llama3") return config.Error(type_field, "want default, linear or llama3");
  BERTH_ASSIGN_OR_RETURN(rope.factor, PositiveFloat(config, scaling + ".factor"));
  rope.scaling = RopeScaling::kLinear;
  if (type == "linear") return rope;

  rope.scaling = RopeScaling::kLlama3;
  BERTH_ASSIGN_OR_RETURN(rope.low_frequency_factor, PositiveFloat(config, scaling + ".low_freq_factor"));
  BERTH_ASSIGN_OR_RETURN(rope.high_frequency_factor, PositiveFloat(config, scaling + ".high_freq_factor"));
  BERTH_ASSIGN_OR_RETURN(rope.original_max_position,
                         Dimension(config, scaling + ".original_max_position_embeddings", kMaxDimension));
  if (rope.high_frequency_factor <= rope.low_frequency_factor) {
    return config.Error(scaling + ".high_freq_factor", "want more than low_freq_factor");
  }
  return rope;
}

absl::StatusOr<AttentionSpec> ParseAttention(const HfConfig& config, int hidden, const Biases& biases) {
  AttentionSpec attention{.qkv_bias = biases.qkv, .out_bias = biases.attention_out};
  BERTH_ASSIGN_OR_RETURN(attention.q_heads, Dimension(config, "num_attention_heads", kMaxHeads));
  attention.kv_heads = attention.q_heads;
  if (config.Has("num_key_value_heads")) {
    BERTH_ASSIGN_OR_RETURN(attention.kv_heads, Dimension(config, "num_key_value_heads", kMaxHeads));
  }
  if (attention.q_heads % attention.kv_heads != 0) {
    return config.Error("num_key_value_heads", absl::StrCat("want a divisor of num_attention_heads, ", attention.q_heads));
  }
  if (config.Has("head_dim")) {
    BERTH_ASSIGN_OR_RETURN(attention.head_dim, Dimension(config, "head_dim", kMaxHeadDim));
  } else if (hidden % attention.q_heads != 0 || hidden / attention.q_heads > kMaxHeadDim) {
    return config.Error("num_attention_heads", absl::StrCat("want a divisor of hidden_size, ", hidden));
  } else {
    attention.head_dim = hidden / attention.q_heads;
  }
  if (attention.head_dim % 2 != 0) return config.Error("head_dim", absl::StrCat("want even, not ", attention.head_dim));
  attention.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(attention.head_dim)));
  BERTH_ASSIGN_OR_RETURN(attention.rope, ParseRope(config, attention.head_dim));
  return attention;
}

// Fields that would change the computation, and that no llama-like family of Berth computes.
absl::Status RejectUnsupported(const HfConfig& config) {
  if (config.Has("quantization_config")) {
    return config.Error("quantization_config.quant_method", "quantised checkpoints are supported as GGUF files only",
                        absl::StatusCode::kUnimplemented);
  }
  for (const std::string_view name : {"partial_rotary_factor", "rope_parameters.partial_rotary_factor"}) {
    BERTH_ASSIGN_OR_RETURN(const double factor, config.FloatOr(name, 1));
    if (factor != 1) return config.Error(name, "want 1", absl::StatusCode::kUnimplemented);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DecoderSpec> ParseLlamaLike(std::string_view family, const HfConfig& config, const Biases& biases) {
  BERTH_RETURN_IF_ERROR(RejectUnsupported(config));
  DecoderSpec spec{.family = std::string(family)};
  BERTH_ASSIGN_OR_RETURN(spec.hidden, Dimension(config, "hidden_size", kMaxDimension));
  BERTH_ASSIGN_OR_RETURN(spec.vocab, Dimension(config, "vocab_size", kMaxDimension));
  BERTH_ASSIGN_OR_RETURN(spec.max_position, Dimension(config, "max_position_embeddings", kMaxDimension));
  BERTH_ASSIGN_OR_RETURN(spec.tied_head, config.BoolOr("tie_word_embeddings", false));
  BERTH_ASSIGN_OR_RETURN(const double epsilon, PositiveFloat(config, "rms_norm_eps"));
  spec.final_norm.epsilon = static_cast<float>(epsilon);

  LayerSpec layer{.attention_norm = spec.final_norm, .mlp_norm = spec.final_norm, .mlp = {.bias = biases.mlp}};
  BERTH_ASSIGN_OR_RETURN(layer.attention, ParseAttention(config, spec.hidden, biases));
  BERTH_ASSIGN_OR_RETURN(layer.mlp.intermediate, Dimension(config, "intermediate_size", kMaxDimension));
  BERTH_ASSIGN_OR_RETURN(layer.mlp.activation, ParseActivation(config));
  BERTH_ASSIGN_OR_RETURN(const int layers, Dimension(config, "num_hidden_layers", kMaxLayers));
  spec.layers.assign(layers, layer);
  return spec;
}

absl::Status ApplySlidingWindow(const HfConfig& config, size_t first_layer, DecoderSpec& spec) {
  if (config.Has("sliding_window") && first_layer < spec.layers.size()) {
    BERTH_ASSIGN_OR_RETURN(const int window, Dimension(config, "sliding_window", kMaxDimension));
    for (size_t i = first_layer; i < spec.layers.size(); ++i) spec.layers[i].attention.window = window;
  }
  if (!config.Has("layer_types")) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> types, config.Strings("layer_types"));
  if (types.size() != spec.layers.size())
    return config.Error("layer_types", absl::StrCat("want ", spec.layers.size(), " of them"));
  for (size_t i = 0; i < types.size(); ++i) {
    const char* const want = spec.layers[i].attention.window == 0 ? "full_attention" : "sliding_attention";
    if (types[i] != want) return config.Error("layer_types", absl::StrCat("want ", want, " for layer ", i));
  }
  return absl::OkStatus();
}

std::vector<WeightRule> LlamaNames(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = {
      Weight("model.embed_tokens.weight", Slot::kEmbed),
      Weight("model.layers.{}.input_layernorm.weight", Slot::kAttentionNorm),
      Weight("model.layers.{}.self_attn.q_proj.weight", Slot::kQkv, 0),
      Weight("model.layers.{}.self_attn.k_proj.weight", Slot::kQkv, 1),
      Weight("model.layers.{}.self_attn.v_proj.weight", Slot::kQkv, 2),
      Weight("model.layers.{}.self_attn.q_proj.bias", Slot::kQkvBias, 0),
      Weight("model.layers.{}.self_attn.k_proj.bias", Slot::kQkvBias, 1),
      Weight("model.layers.{}.self_attn.v_proj.bias", Slot::kQkvBias, 2),
      Weight("model.layers.{}.self_attn.o_proj.weight", Slot::kAttentionOut),
      Weight("model.layers.{}.self_attn.o_proj.bias", Slot::kAttentionOutBias),
      Weight("model.layers.{}.post_attention_layernorm.weight", Slot::kMlpNorm),
      Weight("model.layers.{}.mlp.gate_proj.weight", Slot::kMlpUp, 0),
      Weight("model.layers.{}.mlp.up_proj.weight", Slot::kMlpUp, 1),
      Weight("model.layers.{}.mlp.gate_proj.bias", Slot::kMlpUpBias, 0),
      Weight("model.layers.{}.mlp.up_proj.bias", Slot::kMlpUpBias, 1),
      Weight("model.layers.{}.mlp.down_proj.weight", Slot::kMlpDown),
      Weight("model.layers.{}.mlp.down_proj.bias", Slot::kMlpDownBias),
      Weight("model.norm.weight", Slot::kFinalNorm),
      Ignored("model.layers.{}.self_attn.rotary_emb.inv_freq", "computed from rope_theta"),
  };
  AddHeadRules(spec, "lm_head.weight", rules);
  return rules;
}

}  // namespace berth::model::families
