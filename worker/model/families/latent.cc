#include <cmath>

#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr int64_t kMaxLatentDim = 1 << 16;

}  // namespace

absl::Status ParseLatent(const HfConfig& config, DecoderSpec& spec) {
  BERTH_RETURN_IF_ERROR(ExpectBool(config, "rope_interleave", true));
  AttentionSpec attention = spec.layers.front().attention;
  BERTH_ASSIGN_OR_RETURN(attention.latent.rank, Dimension(config, "kv_lora_rank", kMaxLatentDim));
  BERTH_ASSIGN_OR_RETURN(attention.latent.key_dim, Dimension(config, "qk_nope_head_dim", kMaxLatentDim));
  BERTH_ASSIGN_OR_RETURN(attention.latent.value_dim, Dimension(config, "v_head_dim", kMaxLatentDim));
  BERTH_ASSIGN_OR_RETURN(const int rope_dim, Dimension(config, "qk_rope_head_dim", kMaxLatentDim));
  if (config.Has("q_lora_rank")) {
    BERTH_ASSIGN_OR_RETURN(attention.latent.q_rank, Dimension(config, "q_lora_rank", kMaxLatentDim));
  }
  attention.latent.norm.epsilon = 1e-6f;
  BERTH_ASSIGN_OR_RETURN(const double magnitude, YarnMagnitude(config, attention.rope));
  attention.scale = static_cast<float>(magnitude * magnitude / std::sqrt(attention.latent.key_dim + rope_dim));
  attention.kv_heads = 1;
  attention.head_dim = attention.latent.rank + rope_dim;
  for (LayerSpec& layer : spec.layers) layer.attention = attention;
  return absl::OkStatus();
}

void AddLatentRules(std::vector<WeightRule>& rules) {
  constexpr Transform kPairs = Transform::kInterleavedRope;
  rules.push_back(Weight("model.layers.{}.self_attn.q_proj.weight", Slot::kQ, 0, kPairs));
  rules.push_back(Weight("model.layers.{}.self_attn.q_a_proj.weight", Slot::kQDown));
  rules.push_back(Weight("model.layers.{}.self_attn.q_a_layernorm.weight", Slot::kQDownNorm));
  rules.push_back(Weight("model.layers.{}.self_attn.q_b_proj.weight", Slot::kQ, 0, kPairs));
  rules.push_back(Weight("model.layers.{}.self_attn.kv_a_proj_with_mqa.weight", Slot::kLatent, 0, kPairs));
  rules.push_back(Weight("model.layers.{}.self_attn.kv_a_layernorm.weight", Slot::kLatentNorm));
  rules.push_back(Weight("model.layers.{}.self_attn.kv_b_proj.weight", Slot::kLatentUp));
}

}  // namespace berth::model::families
