#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// Phi 3, 3.5 and 4: llama with fused projections.
absl::StatusOr<DecoderSpec> ParsePhi3(const HfConfig& config) {
  BERTH_RETURN_IF_ERROR(ExpectBool(config, "attention_bias", false));
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "phi3", .partial_rotary = true}));
  BERTH_RETURN_IF_ERROR(ApplySlidingWindow(config, 0, spec));
  return spec;
}

std::vector<WeightRule> Phi3Rules(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = LlamaNames(spec);
  rules.push_back(Weight("model.layers.{}.self_attn.qkv_proj.weight", Slot::kQkv, kAllParts));
  rules.push_back(Weight("model.layers.{}.mlp.gate_up_proj.weight", Slot::kMlpUp, kAllParts));
  return rules;
}

constexpr std::string_view kPhi3Architectures[] = {"Phi3ForCausalLM"};

}  // namespace

extern const Family kPhi3;
constexpr Family kPhi3 = {.name = "phi3", .architectures = kPhi3Architectures, .parse = ParsePhi3, .rules = Phi3Rules};

}  // namespace berth::model::families
