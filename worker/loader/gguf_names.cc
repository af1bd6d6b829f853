#include <vector>

#include "base/status.h"
#include "worker/loader/gguf_architectures.h"
#include "worker/loader/gguf_config.h"

namespace berth::loader {
namespace {

using model::ExpertWeight;
using model::Ignored;
using model::kAllParts;
using model::Slot;
using model::Transform;
using model::Weight;
using model::WeightRule;

void AddAttentionNames(Transform qk, std::vector<WeightRule>& rules) {
  const WeightRule names[] = {
      Weight("blk.{}.attn_q.weight", Slot::kQkv, 0, qk),
      Weight("blk.{}.attn_k.weight", Slot::kQkv, 1, qk),
      Weight("blk.{}.attn_v.weight", Slot::kQkv, 2),
      Weight("blk.{}.attn_qkv.weight", Slot::kQkv, kAllParts, qk),
      Weight("blk.{}.attn_q.bias", Slot::kQkvBias, 0, qk),
      Weight("blk.{}.attn_k.bias", Slot::kQkvBias, 1, qk),
      Weight("blk.{}.attn_v.bias", Slot::kQkvBias, 2),
      Weight("blk.{}.attn_qkv.bias", Slot::kQkvBias, kAllParts, qk),
      Weight("blk.{}.attn_output.weight", Slot::kAttentionOut),
      Weight("blk.{}.attn_output.bias", Slot::kAttentionOutBias),
      Weight("blk.{}.attn_q.weight", Slot::kQ, 0, qk),
      Weight("blk.{}.attn_q_a.weight", Slot::kQDown),
      Weight("blk.{}.attn_q_a_norm.weight", Slot::kQDownNorm),
      Weight("blk.{}.attn_q_b.weight", Slot::kQ, 0, qk),
      Weight("blk.{}.attn_kv_a_mqa.weight", Slot::kLatent, 0, qk),
      Weight("blk.{}.attn_kv_a_norm.weight", Slot::kLatentNorm),
      Weight("blk.{}.attn_kv_b.weight", Slot::kLatentUp),
  };
  rules.insert(rules.end(), std::begin(names), std::end(names));
}

void AddNormNames(const model::DecoderSpec& spec, Transform norms, std::vector<WeightRule>& rules) {
  // Of two norms side by side the first one is the MLP's.
  const bool side_by_side = spec.layers[0].parallel && !spec.layers[0].shared_norm;
  const WeightRule names[] = {
      Weight("blk.{}.attn_norm.weight", side_by_side ? Slot::kMlpNorm : Slot::kAttentionNorm, 0, norms),
      Weight("blk.{}.attn_norm.bias", side_by_side ? Slot::kMlpNormBias : Slot::kAttentionNormBias),
      Weight("blk.{}.attn_norm_2.weight", Slot::kAttentionNorm),
      Weight("blk.{}.attn_norm_2.bias", Slot::kAttentionNormBias),
      Weight("blk.{}.attn_q_norm.weight", Slot::kQNorm, 0, norms),
      Weight("blk.{}.attn_k_norm.weight", Slot::kKNorm, 0, norms),
      Weight("blk.{}.post_attention_norm.weight", Slot::kAttentionPostNorm, 0, norms),
      Weight("blk.{}.ffn_norm.weight", Slot::kMlpNorm, 0, norms),
      Weight("blk.{}.post_ffw_norm.weight", Slot::kMlpPostNorm, 0, norms),
      Weight("output_norm.weight", Slot::kFinalNorm, 0, norms),
      Weight("output_norm.bias", Slot::kFinalNormBias),
  };
  rules.insert(rules.end(), std::begin(names), std::end(names));
}

void AddMlpNames(bool fused_up, std::vector<WeightRule>& rules) {
  const WeightRule names[] = {
      Weight("blk.{}.ffn_gate.weight", Slot::kMlpUp, 0),
      Weight("blk.{}.ffn_up.weight", Slot::kMlpUp, fused_up ? kAllParts : 1),
      Weight("blk.{}.ffn_gate.bias", Slot::kMlpUpBias, 0),
      Weight("blk.{}.ffn_up.bias", Slot::kMlpUpBias, fused_up ? kAllParts : 1),
      Weight("blk.{}.ffn_down.weight", Slot::kMlpDown),
      Weight("blk.{}.ffn_down.bias", Slot::kMlpDownBias),
      Weight("blk.{}.ffn_gate_shexp.weight", Slot::kMlpUp, 0),
      Weight("blk.{}.ffn_up_shexp.weight", Slot::kMlpUp, 1),
      Weight("blk.{}.ffn_down_shexp.weight", Slot::kMlpDown),
      Weight("blk.{}.ffn_gate_inp_shexp.weight", Slot::kMlpRowGate),
  };
  rules.insert(rules.end(), std::begin(names), std::end(names));
}

// All of a layer's experts in one tensor, or in files of the format's first days each in its own.
void AddExpertNames(int experts, std::vector<WeightRule>& rules) {
  rules.push_back(Weight("blk.{}.ffn_gate_inp.weight", Slot::kRouter));
  rules.push_back(Weight("blk.{}.exp_probs_b.bias", Slot::kRouterBias));
  for (const char* gate : {"blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_gate.{}.weight"}) {
    rules.push_back(ExpertWeight(gate, Slot::kExpertsUp, 0, experts));
  }
  for (const char* up : {"blk.{}.ffn_up_exps.weight", "blk.{}.ffn_up.{}.weight"}) {
    rules.push_back(ExpertWeight(up, Slot::kExpertsUp, experts, experts));
  }
  for (const char* down : {"blk.{}.ffn_down_exps.weight", "blk.{}.ffn_down.{}.weight"}) {
    rules.push_back(ExpertWeight(down, Slot::kExpertsDown, 0, experts));
  }
}

}  // namespace

absl::StatusOr<std::vector<WeightRule>> GgufRules(const GgufMetadata& metadata, const model::DecoderSpec& spec) {
  BERTH_ASSIGN_OR_RETURN(const GgufArchitecture* architecture, FindGgufArchitecture(metadata));
  std::vector<WeightRule> rules = {
      Weight("token_embd.weight", Slot::kEmbed),
      Ignored("rope_freqs.weight", "became rope_scaling in the configuration"),
      Ignored("rope_factors_short.weight", "became rope_scaling in the configuration"),
      Ignored("rope_factors_long.weight", "became rope_scaling in the configuration"),
  };
  AddAttentionNames(architecture->qk_order, rules);
  AddNormNames(spec, architecture->norms, rules);
  AddMlpNames(architecture->fused_up, rules);
  AddExpertNames(spec.layers.back().moe.routing.experts, rules);
  AddHeadRules(spec, "output.weight", rules);
  return rules;
}

void FlattenGgufShapes(CheckpointIndex& tensors) {
  for (TensorInfo& tensor : tensors) {
    std::vector<int64_t>& shape = tensor.shape;
    if (shape.size() == 3) shape = {shape[0] * shape[1], shape[2]};
    if (shape.size() == 1 && tensor.name.ends_with(".ffn_gate_inp_shexp.weight")) shape = {1, shape[0]};
  }
}

}  // namespace berth::loader
