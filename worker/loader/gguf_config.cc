#include "worker/loader/gguf_config.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/loader/gguf_architectures.h"
#include "worker/loader/gguf_rope.h"

namespace berth::loader {
namespace {

using model::HfConfig;

// Keys that mean the same as a field of config.json.
struct KeyField {
  std::string_view key;
  std::string_view field;
};
constexpr KeyField kSameMeaning[] = {
    {"block_count", "num_hidden_layers"},
    {"context_length", "max_position_embeddings"},
    {"embedding_length", "hidden_size"},
    {"feed_forward_length", "intermediate_size"},
    {"attention.head_count", "num_attention_heads"},
    {"attention.head_count_kv", "num_key_value_heads"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
    {"attention.key_length", "head_dim"},
    {"attention.sliding_window", "sliding_window"},
    {"rope.freq_base", "rope_theta"},
    {"rope.scaling.type", "rope_scaling.rope_type"},
    {"rope.scaling.factor", "rope_scaling.factor"},
    {"rope.scaling.attn_factor", "rope_scaling.attention_factor"},
    {"rope.scaling.yarn_attn_factor", "rope_scaling.attention_factor"},
    {"rope.scaling.yarn_beta_fast", "rope_scaling.beta_fast"},
    {"rope.scaling.yarn_beta_slow", "rope_scaling.beta_slow"},
    {"rope.freq_base_swa", "rope_local_base_freq"},
    {"vocab_size", "vocab_size"},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon"},
    {"attention.sliding_window_pattern", "sliding_window_pattern"},
    {"attention.q_lora_rank", "q_lora_rank"},
    {"attention.kv_lora_rank", "kv_lora_rank"},
    {"attn_logit_softcapping", "attn_logit_softcapping"},
    {"final_logit_softcapping", "final_logit_softcapping"},
    {"leading_dense_block_count", "first_k_dense_replace"},
    {"expert_count", "num_experts"},
    {"expert_count", "num_local_experts"},
    {"expert_count", "n_routed_experts"},
    {"expert_used_count", "num_experts_per_tok"},
    {"expert_feed_forward_length", "moe_intermediate_size"},
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"},
    {"expert_shared_count", "n_shared_experts"},
    {"expert_weights_scale", "routed_scaling_factor"},
    {"expert_weights_norm", "norm_topk_prob"},
    {"expert_group_count", "n_group"},
    {"expert_group_used_count", "topk_group"},
};
// Keys that say nothing new, or that an architecture's `complete` and TranslateHeads read.
constexpr std::string_view kReadElsewhere[] = {"rope.scaling.original_context_length",
                                               "rope.scaling.finetuned",
                                               "rope.scaling.yarn_log_multiplier",
                                               "tensor_data_layout",
                                               "attention.value_length",
                                               "attention.key_length_mla",
                                               "attention.value_length_mla",
                                               "rope.dimension_count",
                                               "expert_gating_func"};

absl::Status SetField(const GgufMetadata& metadata, const std::string& key, std::string_view field, HfConfig& config) {
  if (const int64_t* integer = metadata.Find<int64_t>(key)) {
    if (*integer == 0 && field == "sliding_window") return absl::OkStatus();  // no window
    config.Set(std::string(field), *integer);
  } else if (const bool* flag = metadata.Find<bool>(key)) {
    config.Set(std::string(field), *flag);
  } else if (const double* number = metadata.Find<double>(key)) {
    config.Set(std::string(field), *number);
  } else if (const std::string* text = metadata.Find<std::string>(key)) {
    config.Set(std::string(field), *text);
  } else {
    return metadata.Error(key, "want a number, a bool or a string");
  }
  return absl::OkStatus();
}

absl::Status TranslateKeys(const GgufMetadata& metadata, const std::string& prefix, HfConfig& config) {
  for (const auto& [key, value] : metadata.values()) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view name = std::string_view(key).substr(prefix.size());
    bool known = std::find(std::begin(kReadElsewhere), std::end(kReadElsewhere), name) != std::end(kReadElsewhere);
    for (const KeyField& same : kSameMeaning) {
      if (same.key != name) continue;
      BERTH_RETURN_IF_ERROR(SetField(metadata, key, same.field, config));
      known = true;
    }
    if (!known) return metadata.Error(key, "this key is not supported", absl::StatusCode::kUnimplemented);
  }
  const std::string original = prefix + "rope.scaling.original_context_length";
  if (config.Has("rope_scaling.rope_type") && metadata.Has(original)) {
    return SetField(metadata, original, "rope_scaling.original_max_position_embeddings", config);
  }
  return absl::OkStatus();
}

// Of one head; 0 when the keys do not say.
int64_t HeadSize(const GgufMetadata& metadata, const std::string& prefix) {
  if (const int64_t* head_dim = metadata.Find<int64_t>(prefix + "attention.key_length")) return *head_dim;
  const int64_t* hidden = metadata.Find<int64_t>(prefix + "embedding_length");
  const int64_t* heads = metadata.Find<int64_t>(prefix + "attention.head_count");
  return hidden != nullptr && heads != nullptr && *heads > 0 ? *hidden / *heads : 0;
}

// The value of `key`, where it is there, must be the head's size.
absl::Status CheckHeadSize(const GgufMetadata& metadata, const std::string& key, int64_t head_size) {
  if (!metadata.Has(key)) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(const int64_t size, metadata.Int(key));
  if (size == head_size) return absl::OkStatus();
  return metadata.Error(key, absl::StrCat("want the size of a head, ", head_size), absl::StatusCode::kUnimplemented);
}

absl::Status TranslateHeads(const GgufMetadata& metadata, GgufHeads heads, const std::string& prefix, HfConfig& config) {
  if (heads == GgufHeads::kLatent) return absl::OkStatus();
  const int64_t head_size = HeadSize(metadata, prefix);
  BERTH_RETURN_IF_ERROR(CheckHeadSize(metadata, prefix + "attention.value_length", head_size));
  const std::string rotary = prefix + "rope.dimension_count";
  if (heads == GgufHeads::kWholeHeadRotates) return CheckHeadSize(metadata, rotary, head_size);
  BERTH_ASSIGN_OR_RETURN(const int64_t dimensions, metadata.Int(rotary));
  if (dimensions < 1 || dimensions > head_size) {
    return metadata.Error(rotary, absl::StrCat("want 1 to the size of a head, ", head_size));
  }
  config.Set("partial_rotary_factor", static_cast<double>(dimensions) / static_cast<double>(head_size));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HfConfig> TranslateGgufConfig(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata;
  BERTH_ASSIGN_OR_RETURN(const GgufArchitecture* architecture, FindGgufArchitecture(metadata));
  const std::string prefix = std::string(architecture->name) + ".";
  HfConfig config;
  config.SetList("architectures", {std::string(architecture->class_name)});
  config.Set("hidden_act", std::string("silu"));  // the format knows no other for those that read it
  BERTH_RETURN_IF_ERROR(TranslateKeys(metadata, prefix, config));
  BERTH_RETURN_IF_ERROR(TranslateHeads(metadata, architecture->heads, prefix, config));

  const TensorInfo* embed = FindTensor(file, "token_embd.weight");
  if (embed == nullptr) return absl::InvalidArgumentError("tensor token_embd.weight is missing");
  config.Set("vocab_size", embed->rows());
  config.Set("tie_word_embeddings", FindTensor(file, "output.weight") == nullptr);
  const bool attention_bias =
      FindTensor(file, "blk.0.attn_q.bias") != nullptr || FindTensor(file, "blk.0.attn_qkv.bias") != nullptr;
  config.Set(architecture->name == "internlm2" ? "bias" : "attention_bias", attention_bias);
  config.Set("mlp_bias", FindTensor(file, "blk.0.ffn_up.bias") != nullptr);
  if (const TensorInfo* divisors = FindTensor(file, "rope_freqs.weight")) {
    BERTH_RETURN_IF_ERROR(TranslateRopeDivisors(*divisors, config));
  }
  if (config.Has("sliding_window")) {
    config.Set("use_sliding_window", true);
    config.Set("max_window_layers", int64_t{0});
  }
  if (architecture->complete != nullptr) BERTH_RETURN_IF_ERROR(architecture->complete(file, prefix, config));
  return config;
}

}  // namespace berth::loader
