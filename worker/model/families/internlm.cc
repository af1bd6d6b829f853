#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// InternLM 1: llama with biases on q, k, v and the output of attention, or (20B) without. Its later configurations have theta
// and scaling in "rotary".
absl::StatusOr<DecoderSpec> ParseInternLm(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("bias", true));
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec,
                         ParseLlamaLike(config, {.family = "internlm",
                                                 .qkv_bias = bias,
                                                 .out_bias = bias,
                                                 .fields = {.theta = config.Has("rotary") ? "rotary.base" : "rope_theta"}}));
  if (!config.Has("rotary")) return spec;
  BERTH_ASSIGN_OR_RETURN(const std::string type, config.String("rotary.type"));
  if (type == "origin") return spec;
  if (type != "dynamic") return config.Error("rotary.type", "want origin or dynamic");
  RopeSpec rope = spec.layers[0].attention.rope;
  BERTH_RETURN_IF_ERROR(ParseDynamicRope(config, "rotary.scaling_factor", spec, rope));
  for (LayerSpec& layer : spec.layers) layer.attention.rope = rope;
  return spec;
}

constexpr std::string_view kInternLmArchitectures[] = {"InternLMForCausalLM"};

}  // namespace

extern const Family kInternLm;
constexpr Family kInternLm = {
    .name = "internlm", .architectures = kInternLmArchitectures, .parse = ParseInternLm, .rules = LlamaNames};

}  // namespace berth::model::families
