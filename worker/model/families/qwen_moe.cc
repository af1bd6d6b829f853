#include <algorithm>

#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// Qwen 1.5 and 2: biases like qwen2, shared experts behind a gate. Qwen 3: q and k norms, nothing shared. Layers in
// mlp_only_layers, and those that decoder_sparse_step passes over, are dense.
absl::StatusOr<DecoderSpec> ParseQwenMoe(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> architectures, config.Strings("architectures"));
  const bool third = architectures.front() == "Qwen3MoeForCausalLM";
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr(third ? "attention_bias" : "qkv_bias", !third));
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec,
                         ParseLlamaLike(config, {.family = "qwen_moe", .qkv_bias = bias, .out_bias = third && bias}));
  BERTH_RETURN_IF_ERROR(ApplyUpperLayersWindow(config, spec));
  MoeSpec moe;
  BERTH_ASSIGN_OR_RETURN(moe.intermediate, Dimension(config, "moe_intermediate_size"));
  BERTH_ASSIGN_OR_RETURN(moe.routing.experts, Dimension(config, "num_experts", kMaxExperts));
  BERTH_ASSIGN_OR_RETURN(moe.routing.top_k, Dimension(config, "num_experts_per_tok", moe.routing.experts));
  BERTH_ASSIGN_OR_RETURN(moe.routing.renormalize, config.BoolOr("norm_topk_prob", false));
  int shared = 0;
  if (!third) {
    BERTH_ASSIGN_OR_RETURN(shared, Dimension(config, "shared_expert_intermediate_size"));
  }
  BERTH_ASSIGN_OR_RETURN(const int64_t step, config.IntOr("decoder_sparse_step", 1));
  if (step < 1) return config.Error("decoder_sparse_step", "want at least 1");
  BERTH_ASSIGN_OR_RETURN(const std::vector<int64_t> dense, config.Ints("mlp_only_layers"));
  std::vector<bool> is_moe;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const bool listed = std::find(dense.begin(), dense.end(), static_cast<int64_t>(i)) != dense.end();
    is_moe.push_back(!listed && (i + 1) % step == 0);
    spec.layers[i].attention.qk_norm = third;
    spec.layers[i].mlp.row_gate = is_moe.back() && !third;
  }
  MakeMoe(moe, shared, is_moe, spec);
  return spec;
}

std::vector<WeightRule> QwenMoeRules(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = LlamaNames(spec);
  AddExpertRules(spec, rules);
  rules.push_back(Weight("model.layers.{}.mlp.shared_expert.gate_proj.weight", Slot::kMlpUp, 0));
  rules.push_back(Weight("model.layers.{}.mlp.shared_expert.up_proj.weight", Slot::kMlpUp, 1));
  rules.push_back(Weight("model.layers.{}.mlp.shared_expert.down_proj.weight", Slot::kMlpDown));
  rules.push_back(Weight("model.layers.{}.mlp.shared_expert_gate.weight", Slot::kMlpRowGate));
  return rules;
}

constexpr std::string_view kQwenMoeArchitectures[] = {"Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"};

}  // namespace

extern const Family kQwenMoe;
constexpr Family kQwenMoe = {
    .name = "qwen_moe", .architectures = kQwenMoeArchitectures, .parse = ParseQwenMoe, .rules = QwenMoeRules};

}  // namespace berth::model::families
