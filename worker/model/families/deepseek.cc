#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// DeepSeek-MoE: the first layers are dense; n_shared_experts are one MLP of their size together.
absl::StatusOr<DecoderSpec> ParseDeepSeek(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("attention_bias", false));
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "deepseek", .qkv_bias = bias, .out_bias = bias}));
  MoeSpec moe;
  BERTH_ASSIGN_OR_RETURN(moe.intermediate, Dimension(config, "moe_intermediate_size"));
  BERTH_ASSIGN_OR_RETURN(moe.routing.experts, Dimension(config, "n_routed_experts", kMaxExperts));
  BERTH_ASSIGN_OR_RETURN(moe.routing.top_k, Dimension(config, "num_experts_per_tok", moe.routing.experts));
  BERTH_ASSIGN_OR_RETURN(moe.routing.renormalize, config.BoolOr("norm_topk_prob", false));
  BERTH_ASSIGN_OR_RETURN(const std::string scoring, config.StringOr("scoring_func", "softmax"));
  if (scoring != "softmax") return config.Error("scoring_func", "want softmax");
  BERTH_ASSIGN_OR_RETURN(const int shared, Dimension(config, "n_shared_experts", kMaxExperts));
  BERTH_ASSIGN_OR_RETURN(const int64_t first, config.IntOr("first_k_dense_replace", 0));
  BERTH_ASSIGN_OR_RETURN(const int64_t step, config.IntOr("moe_layer_freq", 1));
  if (step < 1) return config.Error("moe_layer_freq", "want at least 1");
  std::vector<bool> is_moe;
  for (int64_t i = 0; i < static_cast<int64_t>(spec.layers.size()); ++i) is_moe.push_back(i >= first && i % step == 0);
  MakeMoe(moe, shared * moe.intermediate, is_moe, spec);
  return spec;
}

std::vector<WeightRule> DeepSeekRules(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = LlamaNames(spec);
  AddExpertRules(spec, rules);
  rules.push_back(Weight("model.layers.{}.mlp.shared_experts.gate_proj.weight", Slot::kMlpUp, 0));
  rules.push_back(Weight("model.layers.{}.mlp.shared_experts.up_proj.weight", Slot::kMlpUp, 1));
  rules.push_back(Weight("model.layers.{}.mlp.shared_experts.down_proj.weight", Slot::kMlpDown));
  return rules;
}

constexpr std::string_view kDeepSeekArchitectures[] = {"DeepseekForCausalLM"};

}  // namespace

extern const Family kDeepSeek;
constexpr Family kDeepSeek = {
    .name = "deepseek", .architectures = kDeepSeekArchitectures, .parse = ParseDeepSeek, .rules = DeepSeekRules};

}  // namespace berth::model::families
