#include "worker/loader/gguf_architectures.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace berth::loader {
namespace {

using model::HfConfig;
using model::Transform;

absl::Status CompleteLlama(const GgufFile& file, const std::string& prefix, HfConfig& config) {
  if (config.Has("sliding_window")) config.SetList("architectures", {std::string("MistralForCausalLM")});
  if (config.Has("num_local_experts")) config.SetList("architectures", {std::string("MixtralForCausalLM")});
  return absl::OkStatus();
}

absl::Status CompleteQwen3Moe(const GgufFile& file, const std::string& prefix, HfConfig& config) {
  config.Set("norm_topk_prob", true);  // the format knows no other
  return absl::OkStatus();
}

// Scores are scaled by the head's size, in the largest model of a generation by hidden / heads.
absl::Status CompleteGemma(const GgufFile& file, const std::string& prefix, int64_t largest, HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const int64_t layers, config.Int("num_hidden_layers"));
  BERTH_ASSIGN_OR_RETURN(int64_t scalar, config.Int("head_dim"));
  if (layers == largest) {
    BERTH_ASSIGN_OR_RETURN(const int64_t hidden, config.Int("hidden_size"));
    BERTH_ASSIGN_OR_RETURN(const int64_t heads, config.Int("num_attention_heads"));
    if (heads < 1) return config.Error("num_attention_heads", "want at least 1");
    scalar = hidden / heads;
  }
  config.Set("query_pre_attn_scalar", scalar);
  config.Set("hidden_activation", std::string("gelu_pytorch_tanh"));
  return absl::OkStatus();
}
absl::Status CompleteGemma2(const GgufFile& file, const std::string& prefix, HfConfig& config) {
  return CompleteGemma(file, prefix, 46, config);
}
absl::Status CompleteGemma3(const GgufFile& file, const std::string& prefix, HfConfig& config) {
  return CompleteGemma(file, prefix, 62, config);
}

absl::Status SetDivisors(const GgufFile& file, const std::string& name, const char* field, HfConfig& config) {
  const TensorInfo* tensor = FindTensor(file, name);
  if (tensor == nullptr) return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is missing"));
  if (tensor->dtype != kernels::DType::kF32 || tensor->shape.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", name, " has shape ", ShapeText(tensor->shape), ", want f32 and one divisor for each pair"));
  }
  std::vector<float> values(tensor->rows());
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  config.SetList(absl::StrCat("rope_scaling.", field), {values.begin(), values.end()});
  return absl::OkStatus();
}

absl::Status CompletePhi3(const GgufFile& file, const std::string& prefix, HfConfig& config) {
  if (FindTensor(file, "rope_factors_short.weight") == nullptr) return absl::OkStatus();
  const std::string length = prefix + "rope.scaling.original_context_length";
  BERTH_ASSIGN_OR_RETURN(const int64_t original, file.metadata.Int(length));
  config.Set("rope_scaling.rope_type", std::string("longrope"));
  config.Set("rope_scaling.original_max_position_embeddings", original);
  BERTH_RETURN_IF_ERROR(SetDivisors(file, "rope_factors_short.weight", "short_factor", config));
  return SetDivisors(file, "rope_factors_long.weight", "long_factor", config);
}

absl::Status CompleteFalcon(const GgufFile& file, const std::string& prefix, HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const int64_t kv_heads, file.metadata.Int(prefix + "attention.head_count_kv"));
  BERTH_ASSIGN_OR_RETURN(const int64_t intermediate, file.metadata.Int(prefix + "feed_forward_length"));
  config.Set("num_kv_heads", kv_heads);
  config.Set("ffn_hidden_size", intermediate);
  config.Set("new_decoder_architecture", FindTensor(file, "blk.0.attn_norm_2.weight") != nullptr);
  return absl::OkStatus();
}

// The number of layers tells the 13B models, which have ALiBi.
absl::Status CompleteBaichuan(const GgufFile& file, const std::string& prefix, HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const int64_t layers, config.Int("num_hidden_layers"));
  config.Set("alibi", layers == 40);
  return absl::OkStatus();
}

absl::Status CompleteDeepSeek2(const GgufFile& file, const std::string& prefix, HfConfig& config) {
  const GgufMetadata& metadata = file.metadata;
  BERTH_ASSIGN_OR_RETURN(const int64_t rope_dim, metadata.Int(prefix + "rope.dimension_count"));
  // Newer files have the cached row's length under these keys, and a head's under others.
  const char* const of_head = metadata.Has(prefix + "attention.key_length_mla") ? "_mla" : "";
  BERTH_ASSIGN_OR_RETURN(const int64_t key_dim, metadata.Int(absl::StrCat(prefix, "attention.key_length", of_head)));
  BERTH_ASSIGN_OR_RETURN(const int64_t value_dim, metadata.Int(absl::StrCat(prefix, "attention.value_length", of_head)));
  config.Set("qk_rope_head_dim", rope_dim);
  config.Set("qk_nope_head_dim", key_dim - rope_dim);
  config.Set("v_head_dim", value_dim);
  const std::string magnitude = prefix + "rope.scaling.yarn_log_multiplier";
  if (metadata.Has(magnitude)) {
    BERTH_ASSIGN_OR_RETURN(const double tenth, metadata.Float(magnitude));
    config.Set("rope_scaling.mscale", 10 * tenth);
    config.Set("rope_scaling.mscale_all_dim", 10 * tenth);
  }
  const std::string scoring = prefix + "expert_gating_func";
  BERTH_ASSIGN_OR_RETURN(const int64_t function, metadata.Has(scoring) ? metadata.Int(scoring) : int64_t{1});
  if (function != 1 && function != 2) return metadata.Error(scoring, "want 1, softmax, or 2, sigmoid");
  config.Set("scoring_func", std::string(function == 2 ? "sigmoid" : "softmax"));
  BERTH_ASSIGN_OR_RETURN(const int64_t groups, config.IntOr("n_group", 1));
  if (function == 2) {
    config.SetList("architectures", {std::string("DeepseekV3ForCausalLM")});
    config.Set("topk_method", std::string("noaux_tc"));
    if (!config.Has("n_group")) config.Set("n_group", int64_t{1});
    if (!config.Has("topk_group")) config.Set("topk_group", int64_t{1});
    // What no key says is not the class's default.
    if (!config.Has("routed_scaling_factor")) config.Set("routed_scaling_factor", int64_t{1});
    if (!config.Has("first_k_dense_replace")) config.Set("first_k_dense_replace", int64_t{0});
  } else {
    config.Set("topk_method", std::string(groups > 1 ? "group_limited_greedy" : "greedy"));
  }
  return absl::OkStatus();
}

constexpr Transform kPairs = Transform::kInterleavedRope;
constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama", .class_name = "LlamaForCausalLM", .qk_order = kPairs, .complete = CompleteLlama},
    {.name = "internlm2", .class_name = "InternLM2ForCausalLM", .qk_order = kPairs},
    {.name = "qwen2", .class_name = "Qwen2ForCausalLM"},
    {.name = "qwen2moe", .class_name = "Qwen2MoeForCausalLM"},
    {.name = "qwen3", .class_name = "Qwen3ForCausalLM"},
    {.name = "qwen3moe", .class_name = "Qwen3MoeForCausalLM", .complete = CompleteQwen3Moe},
    {.name = "gemma", .class_name = "GemmaForCausalLM", .norms = Transform::kMinusOne, .leaves_f16 = true},
    {.name = "gemma2",
     .class_name = "Gemma2ForCausalLM",
     .norms = Transform::kMinusOne,
     .leaves_f16 = true,
     .complete = CompleteGemma2},
    {.name = "gemma3",
     .class_name = "Gemma3ForCausalLM",
     .norms = Transform::kMinusOne,
     .leaves_f16 = true,
     .complete = CompleteGemma3},
    {.name = "phi3",
     .class_name = "Phi3ForCausalLM",
     .heads = GgufHeads::kPartRotates,
     .fused_up = true,
     .complete = CompletePhi3},
    {.name = "falcon", .class_name = "FalconForCausalLM", .fused_up = true, .complete = CompleteFalcon},
    {.name = "baichuan", .class_name = "BaiChuanForCausalLM", .qk_order = kPairs, .complete = CompleteBaichuan},
    {.name = "chatglm", .class_name = "GlmForCausalLM", .heads = GgufHeads::kPartRotates, .qk_order = kPairs, .fused_up = true},
    {.name = "glm4",
     .class_name = "Glm4ForCausalLM",
     .heads = GgufHeads::kPartRotates,
     .qk_order = kPairs,
     .fused_up = true,
     .leaves_f16 = true},
    {.name = "deepseek", .class_name = "DeepseekForCausalLM", .qk_order = kPairs},
    {.name = "deepseek2",
     .class_name = "DeepseekV2ForCausalLM",
     .heads = GgufHeads::kLatent,
     .qk_order = kPairs,
     .complete = CompleteDeepSeek2},
};

}  // namespace

absl::StatusOr<const GgufArchitecture*> FindGgufArchitecture(const GgufMetadata& metadata) {
  BERTH_ASSIGN_OR_RETURN(const std::string name, metadata.String("general.architecture"));
  std::vector<std::string> known;
  for (const GgufArchitecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
    known.emplace_back(architecture.name);
  }
  return metadata.Error("general.architecture", absl::StrCat("supported are ", absl::StrJoin(known, ", ")),
                        absl::StatusCode::kUnimplemented);
}

kernels::DType PreferredDType(const GgufArchitecture& architecture, const CheckpointIndex& tensors) {
  const auto suits = [](const TensorInfo& tensor) {
    return tensor.columns() == 0 || kernels::IsQuantized(tensor.dtype) || tensor.dtype == kernels::DType::kF16;
  };
  const bool all = !tensors.empty() && std::all_of(tensors.begin(), tensors.end(), suits);
  return all && !architecture.leaves_f16 ? kernels::DType::kF16 : kernels::DType::kBF16;
}

const TensorInfo* FindTensor(const GgufFile& file, std::string_view name) {
  for (const TensorInfo& tensor : file.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

}  // namespace berth::loader
