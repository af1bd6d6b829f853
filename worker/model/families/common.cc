#include "worker/model/families/common.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace berth::model::families {
namespace {

constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeadDim = 1024;

absl::StatusOr<AttentionSpec> ParseAttention(const HfConfig& config, int hidden, const LlamaLike& family) {
  const FieldNames& fields = family.fields;
  AttentionSpec attention{.qkv_bias = family.qkv_bias, .out_bias = family.out_bias};
  BERTH_ASSIGN_OR_RETURN(attention.q_heads, Dimension(config, fields.heads, kMaxHeads));
  attention.kv_heads = attention.q_heads;
  if (config.Has(fields.kv_heads)) {
    BERTH_ASSIGN_OR_RETURN(attention.kv_heads, Dimension(config, fields.kv_heads, kMaxHeads));
  }
  if (attention.q_heads % attention.kv_heads != 0) {
    return config.Error(fields.kv_heads, absl::StrFormat("want a divisor of %s, %d", fields.heads, attention.q_heads));
  }
  if (config.Has(fields.head_dim)) {
    BERTH_ASSIGN_OR_RETURN(attention.head_dim, Dimension(config, fields.head_dim, kMaxHeadDim));
  } else if (hidden % attention.q_heads != 0 || hidden / attention.q_heads > kMaxHeadDim) {
    return config.Error(fields.heads, absl::StrFormat("want a divisor of %s, %d", fields.hidden, hidden));
  } else {
    attention.head_dim = hidden / attention.q_heads;
  }
  if (attention.head_dim % 2 != 0) return config.Error(fields.head_dim, absl::StrCat("want even, not ", attention.head_dim));
  attention.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(attention.head_dim)));
  return attention;
}

}  // namespace

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

absl::StatusOr<double> PositiveFloatOr(const HfConfig& config, std::string_view name, double absent) {
  if (!config.Has(name)) return absent;
  return PositiveFloat(config, name);
}

absl::Status ExpectBool(const HfConfig& config, std::string_view name, bool want) {
  BERTH_ASSIGN_OR_RETURN(const bool value, config.BoolOr(name, want));
  if (value == want) return absl::OkStatus();
  return config.Error(name, want ? "want true" : "want false", absl::StatusCode::kUnimplemented);
}

absl::Status ExpectString(const HfConfig& config, std::string_view name, std::string_view want) {
  BERTH_ASSIGN_OR_RETURN(const std::string value, config.StringOr(name, std::string(want)));
  return value == want ? absl::OkStatus() : config.Error(name, "want " + std::string(want));
}

absl::StatusOr<kernels::Activation> ParseActivation(const HfConfig& config, std::string_view field) {
  BERTH_ASSIGN_OR_RETURN(const std::string name, config.String(field));
  if (name == "silu" || name == "swish") return kernels::Activation::kSilu;
  if (name == "gelu") return kernels::Activation::kGelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return kernels::Activation::kGeluTanh;
  if (name == "relu") return kernels::Activation::kRelu;
  return config.Error(field, "want silu, gelu, gelu_pytorch_tanh or relu");
}

absl::StatusOr<DecoderSpec> ParseLlamaLike(const HfConfig& config, const LlamaLike& family) {
  const FieldNames& fields = family.fields;
  if (config.Has("quantization_config")) {
    return config.Error("quantization_config.quant_method", "quantised checkpoints are supported as GGUF files only",
                        absl::StatusCode::kUnimplemented);
  }
  DecoderSpec spec{.family = std::string(family.family)};
  BERTH_ASSIGN_OR_RETURN(spec.hidden, Dimension(config, fields.hidden));
  BERTH_ASSIGN_OR_RETURN(spec.vocab, Dimension(config, fields.vocab));
  BERTH_ASSIGN_OR_RETURN(spec.max_position, Dimension(config, fields.max_position));
  BERTH_ASSIGN_OR_RETURN(spec.tied_head, config.BoolOr("tie_word_embeddings", family.tied_head));
  if (!fields.epsilon.empty()) {
    BERTH_ASSIGN_OR_RETURN(spec.final_norm.epsilon, PositiveFloat(config, fields.epsilon));
  }

  LayerSpec layer{.attention_norm = spec.final_norm, .mlp_norm = spec.final_norm, .mlp = {.bias = family.mlp_bias}};
  BERTH_ASSIGN_OR_RETURN(layer.attention, ParseAttention(config, spec.hidden, family));
  BERTH_ASSIGN_OR_RETURN(layer.mlp.intermediate, Dimension(config, fields.intermediate));
  if (!fields.activation.empty()) {
    BERTH_ASSIGN_OR_RETURN(layer.mlp.activation, ParseActivation(config, fields.activation));
  }
  BERTH_ASSIGN_OR_RETURN(const int layers, Dimension(config, fields.layers, kMaxLayers));
  spec.layers.assign(layers, layer);
  BERTH_RETURN_IF_ERROR(ParseRope(config, family, spec));
  return spec;
}

absl::Status CheckLayerTypes(const HfConfig& config, const DecoderSpec& spec) {
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

absl::Status ApplySlidingWindow(const HfConfig& config, size_t first_layer, DecoderSpec& spec) {
  if (config.Has("sliding_window") && first_layer < spec.layers.size()) {
    BERTH_ASSIGN_OR_RETURN(const int window, Dimension(config, "sliding_window"));
    for (size_t i = first_layer; i < spec.layers.size(); ++i) spec.layers[i].attention.window = window;
  }
  return CheckLayerTypes(config, spec);
}

absl::Status ApplyUpperLayersWindow(const HfConfig& config, DecoderSpec& spec) {
  BERTH_ASSIGN_OR_RETURN(const bool use_window, config.BoolOr("use_sliding_window", false));
  const int64_t layers = static_cast<int64_t>(spec.layers.size());
  int64_t first_layer = layers;
  if (use_window) {
    BERTH_ASSIGN_OR_RETURN(first_layer, config.Int("max_window_layers"));
    if (first_layer < 0 || first_layer > layers) {
      return config.Error("max_window_layers", absl::StrCat("want 0 to num_hidden_layers, ", layers));
    }
  }
  return ApplySlidingWindow(config, static_cast<size_t>(first_layer), spec);
}

void MakeMoe(const MoeSpec& moe, int shared_intermediate, const std::vector<bool>& is_moe, DecoderSpec& spec) {
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (!is_moe[i]) continue;
    spec.layers[i].moe = moe;
    spec.layers[i].moe.activation = spec.layers[i].mlp.activation;
    spec.layers[i].mlp.intermediate = shared_intermediate;
  }
}

void AddExpertRules(const DecoderSpec& spec, std::vector<WeightRule>& rules) {
  const int experts = spec.layers.back().moe.routing.experts;
  rules.push_back(Weight("model.layers.{}.mlp.gate.weight", Slot::kRouter));
  rules.push_back(ExpertWeight("model.layers.{}.mlp.experts.{}.gate_proj.weight", Slot::kExpertsUp, 0, experts));
  rules.push_back(ExpertWeight("model.layers.{}.mlp.experts.{}.up_proj.weight", Slot::kExpertsUp, experts, experts));
  rules.push_back(ExpertWeight("model.layers.{}.mlp.experts.{}.down_proj.weight", Slot::kExpertsDown, 0, experts));
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
      Weight("model.layers.{}.self_attn.q_norm.weight", Slot::kQNorm),
      Weight("model.layers.{}.self_attn.k_norm.weight", Slot::kKNorm),
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
