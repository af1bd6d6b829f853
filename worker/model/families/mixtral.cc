#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

absl::StatusOr<DecoderSpec> ParseMixtral(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "mixtral"}));
  BERTH_RETURN_IF_ERROR(ApplySlidingWindow(config, 0, spec));
  MoeSpec moe{.routing = {.renormalize = true}, .intermediate = spec.layers[0].mlp.intermediate};
  BERTH_ASSIGN_OR_RETURN(moe.routing.experts, Dimension(config, "num_local_experts", kMaxExperts));
  BERTH_ASSIGN_OR_RETURN(moe.routing.top_k, Dimension(config, "num_experts_per_tok", moe.routing.experts));
  MakeMoe(moe, 0, std::vector<bool>(spec.layers.size(), true), spec);
  return spec;
}

std::vector<WeightRule> MixtralRules(const DecoderSpec& spec) {
  const int experts = spec.layers[0].moe.routing.experts;
  std::vector<WeightRule> rules = LlamaNames(spec);
  rules.push_back(Weight("model.layers.{}.block_sparse_moe.gate.weight", Slot::kRouter));
  rules.push_back(ExpertWeight("model.layers.{}.block_sparse_moe.experts.{}.w1.weight", Slot::kExpertsUp, 0, experts));
  rules.push_back(ExpertWeight("model.layers.{}.block_sparse_moe.experts.{}.w3.weight", Slot::kExpertsUp, experts, experts));
  rules.push_back(ExpertWeight("model.layers.{}.block_sparse_moe.experts.{}.w2.weight", Slot::kExpertsDown, 0, experts));
  return rules;
}

constexpr std::string_view kMixtralArchitectures[] = {"MixtralForCausalLM"};

}  // namespace

extern const Family kMixtral;
constexpr Family kMixtral = {
    .name = "mixtral", .architectures = kMixtralArchitectures, .parse = ParseMixtral, .rules = MixtralRules};

}  // namespace berth::model::families
