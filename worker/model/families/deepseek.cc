#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr int64_t kMaxPredictionLayers = 16;
constexpr std::string_view kDeepSeekArchitectures[] = {"DeepseekForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"};

// 1 for DeepSeek-MoE, then 2 and 3.
absl::StatusOr<int> DeepSeekVersion(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> architectures, config.Strings("architectures"));
  const auto* const end = std::end(kDeepSeekArchitectures);
  const auto* const found = std::find(std::begin(kDeepSeekArchitectures), end, architectures.front());
  if (found == end) return config.Error("architectures", "want the class of one DeepSeek model");
  return static_cast<int>(found - std::begin(kDeepSeekArchitectures)) + 1;
}

// Experts in groups, of which only some are chosen from: in 2 those with the best expert, in 3 with the best two.
absl::Status ParseGroups(const HfConfig& config, int group_best, kernels::Routing& routing) {
  BERTH_ASSIGN_OR_RETURN(routing.groups, Dimension(config, "n_group", routing.experts));
  BERTH_ASSIGN_OR_RETURN(routing.top_groups, Dimension(config, "topk_group", routing.groups));
  const int size = routing.experts / routing.groups;
  if (routing.experts % routing.groups != 0 || size < group_best) {
    return config.Error("n_group", absl::StrCat("want a divisor of n_routed_experts, ", routing.experts));
  }
  if (routing.top_k > size * routing.top_groups) {
    return config.Error("topk_group", absl::StrCat("want room for num_experts_per_tok, ", routing.top_k));
  }
  routing.group_best = group_best;
  return absl::OkStatus();
}

absl::Status ParseDeepSeekRouting(const HfConfig& config, int version, MoeSpec& moe) {
  kernels::Routing& routing = moe.routing;
  BERTH_ASSIGN_OR_RETURN(routing.experts, Dimension(config, "n_routed_experts", kMaxExperts));
  BERTH_ASSIGN_OR_RETURN(routing.top_k, Dimension(config, "num_experts_per_tok", routing.experts));
  BERTH_RETURN_IF_ERROR(ExpectString(config, "scoring_func", version == 3 ? "sigmoid" : "softmax"));
  BERTH_ASSIGN_OR_RETURN(routing.renormalize, config.BoolOr("norm_topk_prob", version == 3));
  if (version == 1) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(const double scale, PositiveFloatOr(config, "routed_scaling_factor", version == 3 ? 2.5 : 1));
  routing.scale = static_cast<float>(scale);
  if (version == 3) {
    routing.score = kernels::RouterScore::kSigmoid;
    moe.router_bias = true;
    BERTH_RETURN_IF_ERROR(ExpectString(config, "topk_method", "noaux_tc"));
    return ParseGroups(config, 2, routing);
  }
  BERTH_RETURN_IF_ERROR(ExpectBool(config, "norm_topk_prob", false));
  BERTH_ASSIGN_OR_RETURN(const std::string method, config.StringOr("topk_method", "greedy"));
  if (method == "group_limited_greedy") return ParseGroups(config, 1, routing);
  return method == "greedy" ? absl::OkStatus() : config.Error("topk_method", "want greedy or group_limited_greedy");
}

// The first layers are dense; n_shared_experts are one MLP of their size together.
absl::StatusOr<DecoderSpec> ParseDeepSeek(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const int version, DeepSeekVersion(config));
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("attention_bias", false));
  LlamaLike like{.family = "deepseek", .qkv_bias = bias, .out_bias = bias};
  if (version > 1) {
    BERTH_RETURN_IF_ERROR(ExpectBool(config, "attention_bias", false));
    like.fields.head_dim = "qk_rope_head_dim";
  }
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, like));
  if (version > 1) BERTH_RETURN_IF_ERROR(ParseLatent(config, spec));
  MoeSpec moe;
  BERTH_ASSIGN_OR_RETURN(moe.intermediate, Dimension(config, "moe_intermediate_size"));
  BERTH_RETURN_IF_ERROR(ParseDeepSeekRouting(config, version, moe));
  if (config.Has("num_nextn_predict_layers")) {
    BERTH_ASSIGN_OR_RETURN(const int64_t layers, config.Int("num_nextn_predict_layers"));
    if (layers < 0 || layers > kMaxPredictionLayers) {
      return config.Error("num_nextn_predict_layers", absl::StrCat("want 0 to ", kMaxPredictionLayers));
    }
    spec.prediction_layers = static_cast<int>(layers);
  }
  BERTH_ASSIGN_OR_RETURN(const int shared, Dimension(config, "n_shared_experts", kMaxExperts));
  BERTH_ASSIGN_OR_RETURN(const int64_t first, config.IntOr("first_k_dense_replace", version == 3 ? 3 : 0));
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
  if (spec.layers.front().attention.latent.rank > 0) AddLatentRules(rules);
  rules.push_back(Weight("model.layers.{}.mlp.gate.e_score_correction_bias", Slot::kRouterBias));
  rules.push_back(Weight("model.layers.{}.mlp.shared_experts.gate_proj.weight", Slot::kMlpUp, 0));
  rules.push_back(Weight("model.layers.{}.mlp.shared_experts.up_proj.weight", Slot::kMlpUp, 1));
  rules.push_back(Weight("model.layers.{}.mlp.shared_experts.down_proj.weight", Slot::kMlpDown));
  if (spec.prediction_layers == 0) return rules;
  for (const char* name : {"model.layers.{}.embed_tokens.weight", "model.layers.{}.enorm.weight",
                           "model.layers.{}.hnorm.weight", "model.layers.{}.eh_proj.weight",
                           "model.layers.{}.shared_head.norm.weight", "model.layers.{}.shared_head.head.weight"}) {
    rules.push_back(Ignored(name, "predicts the token after next"));
  }
  return rules;
}

}  // namespace

extern const Family kDeepSeek;
constexpr Family kDeepSeek = {
    .name = "deepseek", .architectures = kDeepSeekArchitectures, .parse = ParseDeepSeek, .rules = DeepSeekRules};

}  // namespace berth::model::families
