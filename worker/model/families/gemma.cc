#include <cmath>

#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// What Gemma 2 and 3 add: norms of what attention and MLP give, and a scale of the scores that is no head's size.
absl::Status AddPostNorms(const HfConfig& config, DecoderSpec& spec) {
  BERTH_ASSIGN_OR_RETURN(const double scalar, PositiveFloatOr(config, "query_pre_attn_scalar", 256));
  for (LayerSpec& layer : spec.layers) {
    layer.attention_post_norm = layer.mlp_post_norm = true;
    layer.attention.scale = static_cast<float>(1 / std::sqrt(scalar));
  }
  return absl::OkStatus();
}

// The layers that layer_types names have a window; without it all but every `pattern`-th one.
absl::Status AddGemmaWindows(const HfConfig& config, int64_t pattern, DecoderSpec& spec) {
  BERTH_ASSIGN_OR_RETURN(const int window, Dimension(config, "sliding_window"));
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> types, config.Strings("layer_types"));
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const bool slides = types.empty() ? (i + 1) % pattern != 0 : i < types.size() && types[i] == "sliding_attention";
    if (slides) spec.layers[i].attention.window = window;
  }
  return CheckLayerTypes(config, spec);
}

// A bound of scores or logits; null says that there is none.
absl::StatusOr<double> ParseGemmaSoftcap(const HfConfig& config, std::string_view name, double absent) {
  return PositiveFloatOr(config, name, config.IsNull(name) ? 0 : absent);
}

// Gemma 2: bounded scores and logits; every second layer, the first among them, has a window.
absl::Status MakeGemma2(const HfConfig& config, DecoderSpec& spec) {
  BERTH_RETURN_IF_ERROR(AddPostNorms(config, spec));
  BERTH_RETURN_IF_ERROR(AddGemmaWindows(config, 2, spec));
  BERTH_ASSIGN_OR_RETURN(spec.logit_softcap, ParseGemmaSoftcap(config, "final_logit_softcapping", 30));
  BERTH_ASSIGN_OR_RETURN(const float softcap, ParseGemmaSoftcap(config, "attn_logit_softcapping", 50));
  for (LayerSpec& layer : spec.layers) layer.attention.softcap = softcap;
  return absl::OkStatus();
}

// transformers 5 has an object for each type of layer.
constexpr std::string_view kGemma3GlobalRope = "rope_parameters.full_attention";
constexpr std::string_view kGemma3LocalTheta = "rope_parameters.sliding_attention.rope_theta";

// Gemma 3: q and k norms; all but every sliding_window_pattern-th layer have a window, and an unscaled rotary embedding of
// their own.
absl::Status MakeGemma3(const HfConfig& config, DecoderSpec& spec) {
  BERTH_RETURN_IF_ERROR(AddPostNorms(config, spec));
  if (config.Has("attn_logit_softcapping")) {
    return config.Error("attn_logit_softcapping", "want null", absl::StatusCode::kUnimplemented);
  }
  BERTH_ASSIGN_OR_RETURN(spec.logit_softcap, ParseGemmaSoftcap(config, "final_logit_softcapping", 0));
  BERTH_ASSIGN_OR_RETURN(const int64_t pattern, config.IntOr("sliding_window_pattern", 6));
  if (pattern < 1) return config.Error("sliding_window_pattern", "want at least 1");
  BERTH_RETURN_IF_ERROR(AddGemmaWindows(config, pattern, spec));
  BERTH_RETURN_IF_ERROR(ExpectString(config, "rope_parameters.sliding_attention.rope_type", "default"));
  BERTH_ASSIGN_OR_RETURN(
      const double local_theta,
      PositiveFloatOr(config, config.Has(kGemma3LocalTheta) ? kGemma3LocalTheta : "rope_local_base_freq", 10000));
  for (LayerSpec& layer : spec.layers) {
    AttentionSpec& attention = layer.attention;
    attention.qk_norm = true;
    if (attention.window > 0) attention.rope = {.rotary_dim = attention.rope.rotary_dim, .theta = local_theta};
  }
  return absl::OkStatus();
}

absl::StatusOr<DecoderSpec> ParseGemma(const HfConfig& config) {
  for (const char* field : {"attention_bias", "use_bidirectional_attention"}) {
    BERTH_RETURN_IF_ERROR(ExpectBool(config, field, false));
  }
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> architectures, config.Strings("architectures"));
  const std::string_view architecture = architectures.front();
  const bool first = architecture == "GemmaForCausalLM";
  // Gemma 1 was released with hidden_act "gelu", which its code overrules, and with hidden_activation later.
  LlamaLike like{.family = "gemma", .tied_head = true, .fields = {.activation = first ? "" : "hidden_activation"}};
  if (architecture == "Gemma3ForCausalLM") {
    like.theta = 1e6;
    like.fields.rope_parameters = kGemma3GlobalRope;
  }
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, like));
  spec.embed_scale = std::sqrt(static_cast<float>(spec.hidden));
  spec.final_norm.weight_offset = 1;
  for (LayerSpec& layer : spec.layers) {
    layer.attention_norm.weight_offset = layer.mlp_norm.weight_offset = 1;
    if (first) layer.mlp.activation = kernels::Activation::kGeluTanh;
  }
  if (architecture == "Gemma2ForCausalLM") BERTH_RETURN_IF_ERROR(MakeGemma2(config, spec));
  if (architecture == "Gemma3ForCausalLM") BERTH_RETURN_IF_ERROR(MakeGemma3(config, spec));
  return spec;
}

// In layers with four norms, post_attention_layernorm is of attention's output, not of the MLP's input.
std::vector<WeightRule> GemmaRules(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = LlamaNames(spec);
  if (!spec.layers[0].mlp_post_norm) return rules;
  std::erase_if(rules, [](const WeightRule& rule) { return rule.slot == Slot::kMlpNorm; });
  rules.push_back(Weight("model.layers.{}.post_attention_layernorm.weight", Slot::kAttentionPostNorm));
  rules.push_back(Weight("model.layers.{}.pre_feedforward_layernorm.weight", Slot::kMlpNorm));
  rules.push_back(Weight("model.layers.{}.post_feedforward_layernorm.weight", Slot::kMlpPostNorm));
  return rules;
}

constexpr std::string_view kGemmaArchitectures[] = {"GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"};

}  // namespace

extern const Family kGemma;
constexpr Family kGemma = {.name = "gemma", .architectures = kGemmaArchitectures, .parse = ParseGemma, .rules = GemmaRules};

}  // namespace berth::model::families
