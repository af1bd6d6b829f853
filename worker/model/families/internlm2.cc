#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// XComposer2 is InternLM2 with a vision tower, and with low-rank additions to every product that only rows of images get. Their
// rank is a constant of its code, which divides it by itself to scale them.
constexpr std::string_view kInternLm2Architectures[] = {"InternLM2ForCausalLM", "InternLMXComposer2ForCausalLM"};
constexpr int kXComposer2Rank = 256;

absl::StatusOr<DecoderSpec> ParseInternLm2(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("bias", false));
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "internlm2", .qkv_bias = bias, .out_bias = bias}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> architectures, config.Strings("architectures"));
  if (architectures.front() == kInternLm2Architectures[1]) {
    for (LayerSpec& layer : spec.layers) layer.image_rank = kXComposer2Rank;
  }
  return spec;
}

std::vector<WeightRule> InternLm2Rules(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = {
      Weight("model.tok_embeddings.weight", Slot::kEmbed),
      Weight("model.layers.{}.attention_norm.weight", Slot::kAttentionNorm),
      Weight("model.layers.{}.attention.wqkv.weight", Slot::kQkv, kAllParts, Transform::kGroupedQkv),
      Weight("model.layers.{}.attention.wqkv.bias", Slot::kQkvBias, kAllParts, Transform::kGroupedQkv),
      Weight("model.layers.{}.attention.wo.weight", Slot::kAttentionOut),
      Weight("model.layers.{}.attention.wo.bias", Slot::kAttentionOutBias),
      Weight("model.layers.{}.ffn_norm.weight", Slot::kMlpNorm),
      Weight("model.layers.{}.feed_forward.w1.weight", Slot::kMlpUp, 0),
      Weight("model.layers.{}.feed_forward.w3.weight", Slot::kMlpUp, 1),
      Weight("model.layers.{}.feed_forward.w2.weight", Slot::kMlpDown),
      Weight("model.norm.weight", Slot::kFinalNorm),
      Weight("model.layers.{}.attention.wqkv.Plora_A.weight", Slot::kQkvAdapterDown),
      Weight("model.layers.{}.attention.wqkv.Plora_B.weight", Slot::kQkvAdapterUp, kAllParts, Transform::kGroupedQkv),
      Weight("model.layers.{}.attention.wo.Plora_A.weight", Slot::kAttentionOutAdapterDown),
      Weight("model.layers.{}.attention.wo.Plora_B.weight", Slot::kAttentionOutAdapterUp),
      Weight("model.layers.{}.feed_forward.w1.Plora_A.weight", Slot::kMlpUpAdapterDown, 0),
      Weight("model.layers.{}.feed_forward.w1.Plora_B.weight", Slot::kMlpUpAdapterUp, 0),
      Weight("model.layers.{}.feed_forward.w3.Plora_A.weight", Slot::kMlpUpAdapterDown, 1),
      Weight("model.layers.{}.feed_forward.w3.Plora_B.weight", Slot::kMlpUpAdapterUp, 1),
      Weight("model.layers.{}.feed_forward.w2.Plora_A.weight", Slot::kMlpDownAdapterDown),
      Weight("model.layers.{}.feed_forward.w2.Plora_B.weight", Slot::kMlpDownAdapterUp),
      Ignored("vit.*", "makes rows of an image"),
      Ignored("vision_proj.*", "makes rows of an image"),
  };
  AddHeadRules(spec, "output.weight", rules);
  return rules;
}

}  // namespace

extern const Family kInternLm2;
constexpr Family kInternLm2 = {
    .name = "internlm2", .architectures = kInternLm2Architectures, .parse = ParseInternLm2, .rules = InternLm2Rules};

}  // namespace berth::model::families
