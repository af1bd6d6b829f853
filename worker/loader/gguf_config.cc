#include "worker/loader/gguf_config.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/loader/gguf_rope.h"

namespace berth::loader {
namespace {

using model::HfConfig;
using model::Slot;
using model::Transform;
using model::WeightRule;

struct Architecture {
  std::string_view gguf;
  std::string_view hugging_face;
  Transform qk_order;
};

constexpr std::array<Architecture, 3> kArchitectures = {{
    {"llama", "LlamaForCausalLM", Transform::kInterleavedRope},
    {"internlm2", "InternLM2ForCausalLM", Transform::kInterleavedRope},
    {"qwen2", "Qwen2ForCausalLM", Transform::kCopy},
}};

absl::StatusOr<const Architecture*> FindArchitecture(const GgufMetadata& metadata) {
  BERTH_ASSIGN_OR_RETURN(const std::string name, metadata.String("general.architecture"));
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.gguf == name) return &architecture;
  }
  return metadata.Error("general.architecture", "supported are llama, internlm2, qwen2", absl::StatusCode::kUnimplemented);
}

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
    {"vocab_size", "vocab_size"},
};
// Keys that say nothing new; the last two are checked against what they must equal.
constexpr std::string_view kRedundant[] = {"rope.scaling.original_context_length", "rope.scaling.finetuned",
                                           "tensor_data_layout", "attention.value_length", "rope.dimension_count"};

const TensorInfo* FindTensor(const GgufFile& file, std::string_view name) {
  for (const TensorInfo& tensor : file.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

absl::Status SetField(const GgufMetadata& metadata, const std::string& key, std::string_view field, HfConfig& config) {
  if (const int64_t* integer = metadata.Find<int64_t>(key)) {
    config.Set(std::string(field), *integer);
  } else if (const double* number = metadata.Find<double>(key)) {
    config.Set(std::string(field), *number);
  } else if (const std::string* text = metadata.Find<std::string>(key)) {
    config.Set(std::string(field), *text);
  } else {
    return metadata.Error(key, "want a number or a string");
  }
  return absl::OkStatus();
}

absl::Status TranslateKeys(const GgufMetadata& metadata, const std::string& prefix, HfConfig& config) {
  for (const auto& [key, value] : metadata.values()) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view name = std::string_view(key).substr(prefix.size());
    const auto same = std::find_if(std::begin(kSameMeaning), std::end(kSameMeaning),
                                   [&](const KeyField& entry) { return entry.key == name; });
    if (same != std::end(kSameMeaning)) {
      BERTH_RETURN_IF_ERROR(SetField(metadata, key, same->field, config));
    } else if (std::find(std::begin(kRedundant), std::end(kRedundant), name) == std::end(kRedundant)) {
      return metadata.Error(key, "this key is not supported", absl::StatusCode::kUnimplemented);
    }
  }
  return absl::OkStatus();
}

// The value of `key`, where it is there, must be the head's size.
absl::Status CheckHeadSize(const GgufMetadata& metadata, const std::string& prefix, std::string_view key) {
  const std::string name = prefix + std::string(key);
  if (!metadata.Has(name)) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(const int64_t size, metadata.Int(name));
  const int64_t* head_dim = metadata.Find<int64_t>(prefix + "attention.key_length");
  const int64_t* hidden = metadata.Find<int64_t>(prefix + "embedding_length");
  const int64_t* heads = metadata.Find<int64_t>(prefix + "attention.head_count");
  int64_t want = 0;
  if (head_dim != nullptr) {
    want = *head_dim;
  } else if (hidden != nullptr && heads != nullptr && *heads > 0) {
    want = *hidden / *heads;
  }
  if (size == want) return absl::OkStatus();
  return metadata.Error(name, absl::StrCat("want the size of a head, ", want), absl::StatusCode::kUnimplemented);
}

}  // namespace

absl::StatusOr<HfConfig> TranslateGgufConfig(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata;
  BERTH_ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(metadata));
  const std::string prefix = std::string(architecture->gguf) + ".";
  HfConfig config;
  config.SetList("architectures", {std::string(architecture->hugging_face)});
  config.Set("hidden_act", std::string("silu"));  // these architectures have no other
  BERTH_RETURN_IF_ERROR(TranslateKeys(metadata, prefix, config));
  BERTH_RETURN_IF_ERROR(CheckHeadSize(metadata, prefix, "attention.value_length"));
  BERTH_RETURN_IF_ERROR(CheckHeadSize(metadata, prefix, "rope.dimension_count"));

  const TensorInfo* embed = FindTensor(file, "token_embd.weight");
  if (embed == nullptr) return absl::InvalidArgumentError("tensor token_embd.weight is missing");
  config.Set("vocab_size", embed->rows());
  config.Set("tie_word_embeddings", FindTensor(file, "output.weight") == nullptr);
  const bool attention_bias = FindTensor(file, "blk.0.attn_q.bias") != nullptr;
  config.Set(architecture->gguf == "internlm2" ? "bias" : "attention_bias", attention_bias);
  config.Set("mlp_bias", FindTensor(file, "blk.0.ffn_up.bias") != nullptr);
  if (const TensorInfo* divisors = FindTensor(file, "rope_freqs.weight")) {
    BERTH_RETURN_IF_ERROR(TranslateRopeDivisors(*divisors, config));
  }
  if (config.Has("sliding_window")) {
    config.Set("use_sliding_window", true);
    config.Set("max_window_layers", int64_t{0});
  }
  return config;
}

absl::StatusOr<std::vector<WeightRule>> GgufRules(const GgufMetadata& metadata, const model::DecoderSpec& spec) {
  BERTH_ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(metadata));
  const Transform qk = architecture->qk_order;
  std::vector<WeightRule> rules = {
      Weight("token_embd.weight", Slot::kEmbed),
      Weight("blk.{}.attn_norm.weight", Slot::kAttentionNorm),
      Weight("blk.{}.attn_q.weight", Slot::kQkv, 0, qk),
      Weight("blk.{}.attn_k.weight", Slot::kQkv, 1, qk),
      Weight("blk.{}.attn_v.weight", Slot::kQkv, 2),
      Weight("blk.{}.attn_q.bias", Slot::kQkvBias, 0, qk),
      Weight("blk.{}.attn_k.bias", Slot::kQkvBias, 1, qk),
      Weight("blk.{}.attn_v.bias", Slot::kQkvBias, 2),
      Weight("blk.{}.attn_output.weight", Slot::kAttentionOut),
      Weight("blk.{}.attn_output.bias", Slot::kAttentionOutBias),
      Weight("blk.{}.ffn_norm.weight", Slot::kMlpNorm),
      Weight("blk.{}.ffn_gate.weight", Slot::kMlpUp, 0),
      Weight("blk.{}.ffn_up.weight", Slot::kMlpUp, 1),
      Weight("blk.{}.ffn_gate.bias", Slot::kMlpUpBias, 0),
      Weight("blk.{}.ffn_up.bias", Slot::kMlpUpBias, 1),
      Weight("blk.{}.ffn_down.weight", Slot::kMlpDown),
      Weight("blk.{}.ffn_down.bias", Slot::kMlpDownBias),
      Weight("output_norm.weight", Slot::kFinalNorm),
      model::Ignored("rope_freqs.weight", "became rope_scaling in the configuration"),
  };
  AddHeadRules(spec, "output.weight", rules);
  return rules;
}

}  // namespace berth::loader
