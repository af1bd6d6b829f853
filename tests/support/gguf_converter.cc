#include "tests/support/gguf_converter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "tests/support/files.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tiny_models.h"
#include "worker/model/hf_config.h"

namespace berth::testing {
namespace {

using model::HfConfig;

struct Twin {
  const char* model;
  const char* architecture;
  bool pairs = false;           // q and k are stored half-split and written as neighbouring pairs
  bool norms_plus_one = false;  // norms are written with 1 added
  int layers = 3;               // of the tiny model's, from the first on
};
constexpr Twin kTwins[] = {
    {"llama", "llama", true},
    {"mixtral", "llama", true},
    {"qwen2", "qwen2"},
    {"qwen2_moe", "qwen2moe"},
    {"qwen3", "qwen3"},
    {"qwen3_moe", "qwen3moe", false, false, 1},
    {"gemma", "gemma", false, true},
    {"gemma2", "gemma2", false, true},
    {"gemma3", "gemma3", false, true},
    {"phi3", "phi3"},
    {"falcon", "falcon"},
    {"falcon_40b", "falcon"},
    {"baichuan", "baichuan", true},
    {"chatglm", "chatglm"},
    {"glm4", "glm4"},
    {"deepseek_moe", "deepseek", true},
    {"deepseek_v2", "deepseek2"},
    {"deepseek_v2_lite", "deepseek2"},
    {"deepseek_v3", "deepseek2"},
};

constexpr std::pair<const char*, const char*> kKeys[] = {
    {"context_length", "max_position_embeddings"},
    {"context_length", "seq_length"},
    {"embedding_length", "hidden_size"},
    {"feed_forward_length", "intermediate_size"},
    {"feed_forward_length", "ffn_hidden_size"},
    {"attention.head_count", "num_attention_heads"},
    {"attention.head_count_kv", "num_key_value_heads"},
    {"attention.head_count_kv", "multi_query_group_num"},
    {"attention.head_count_kv", "num_kv_heads"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
    {"attention.layer_norm_rms_epsilon", "layernorm_epsilon"},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon"},
    {"attention.key_length", "head_dim"},
    {"attention.value_length", "head_dim"},
    {"attention.sliding_window", "sliding_window"},
    {"attention.sliding_window_pattern", "sliding_window_pattern"},
    {"attention.q_lora_rank", "q_lora_rank"},
    {"attention.kv_lora_rank", "kv_lora_rank"},
    {"attn_logit_softcapping", "attn_logit_softcapping"},
    {"final_logit_softcapping", "final_logit_softcapping"},
    {"rope.freq_base", "rope_theta"},
    {"rope.freq_base", "rope_parameters.rope_theta"},
    {"rope.freq_base_swa", "rope_local_base_freq"},
    {"rope.dimension_count", "qk_rope_head_dim"},
    {"rope.scaling.type", "rope_scaling.rope_type"},
    {"rope.scaling.factor", "rope_scaling.factor"},
    {"rope.scaling.original_context_length", "rope_scaling.original_max_position_embeddings"},
    {"rope.scaling.original_context_length", "original_max_position_embeddings"},
    {"rope.scaling.yarn_beta_fast", "rope_scaling.beta_fast"},
    {"rope.scaling.yarn_beta_slow", "rope_scaling.beta_slow"},
    {"leading_dense_block_count", "first_k_dense_replace"},
    {"expert_count", "num_experts"},
    {"expert_count", "num_local_experts"},
    {"expert_count", "n_routed_experts"},
    {"expert_used_count", "num_experts_per_tok"},
    {"expert_feed_forward_length", "moe_intermediate_size"},
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"},
    {"expert_shared_count", "n_shared_experts"},
    {"expert_weights_scale", "routed_scaling_factor"},
    {"expert_group_count", "n_group"},
    {"expert_group_used_count", "topk_group"},
};

void SetKey(const HfConfig& config, const char* field, const std::string& key, GgufWriter& writer) {
  if (const auto integer = config.Int(field); integer.ok()) return writer.Set(key, *integer);
  if (const auto number = config.Float(field); number.ok()) return writer.Set(key, *number);
  writer.Set(key, config.String(field).value());
}

// Keys whose values a converter computes.
void SetComputedKeys(const Twin& twin, const HfConfig& config, const std::string& prefix, bool split_latent,
                     GgufWriter& writer) {
  const std::string_view model = twin.model;
  const int64_t head_dim = 16;  // of those below
  if (model.starts_with("falcon")) {
    writer.Set(prefix + "feed_forward_length", 4 * config.Int("hidden_size").value());
    if (!config.Has("num_kv_heads")) writer.Set(prefix + "attention.head_count_kv", int64_t{1});
  } else if (model == "phi3") {
    writer.Set(prefix + "rope.dimension_count", head_dim * 3 / 4);
    writer.Set(prefix + "rope.scaling.attn_factor", std::sqrt(1 + std::log(2.0) / std::log(128.0)));
  } else if (model == "chatglm") {
    writer.Set(prefix + "rope.freq_base", 10000 * config.Float("rope_ratio").value());
    writer.Set(prefix + "rope.dimension_count", head_dim / 2);
  } else if (model == "glm4") {
    writer.Set(prefix + "rope.dimension_count", head_dim / 2);
  } else if (model == "baichuan") {
    writer.Set(prefix + "attention.head_count_kv", int64_t{4});
  } else if (model.starts_with("deepseek_v")) {
    const char* const of_head = split_latent ? "_length_mla" : "_length";
    const int64_t rope_dim = config.Int("qk_rope_head_dim").value();
    writer.Set(absl::StrCat(prefix, "attention.key", of_head), config.Int("qk_nope_head_dim").value() + rope_dim);
    writer.Set(absl::StrCat(prefix, "attention.value", of_head), config.Int("v_head_dim").value());
    if (split_latent) {
      writer.Set(prefix + "attention.key_length", config.Int("kv_lora_rank").value() + rope_dim);
      writer.Set(prefix + "attention.value_length", config.Int("kv_lora_rank").value());
      writer.Set(prefix + "attention.head_count_kv", int64_t{1});
    }
    writer.Set(prefix + "expert_gating_func", int64_t{model == "deepseek_v3" ? 2 : 1});
    if (model == "deepseek_v3") writer.Set(prefix + "expert_weights_norm", true);
    if (config.Has("rope_scaling")) {
      writer.Set(prefix + "rope.scaling.type", std::string("yarn"));
      writer.Set(prefix + "rope.scaling.yarn_log_multiplier", 0.1 * config.Float("rope_scaling.mscale_all_dim").value());
    }
  }
}

void SetTokenizer(GgufWriter& writer) {
  std::vector<std::string> tokens;
  for (int i = 0; i < 288; ++i) tokens.push_back(absl::StrCat("t", i));
  writer.Set("tokenizer.ggml.model", std::string("llama"));
  writer.Set("tokenizer.ggml.scores", std::vector<double>(tokens.size(), 0.0));
  writer.Set("tokenizer.ggml.tokens", tokens);
}

std::string GgufName(const Twin& twin, const std::string& name) {
  std::vector<std::pair<std::string, std::string>> names = {
      {"model.layers.", "blk."},
      {"transformer.encoder.layers.", "blk."},
      {"transformer.h.", "blk."},
      {"model.embed_tokens", "token_embd"},
      {"transformer.embedding.word_embeddings", "token_embd"},
      {"transformer.word_embeddings", "token_embd"},
      {"model.norm", "output_norm"},
      {"transformer.encoder.final_layernorm", "output_norm"},
      {"transformer.ln_f", "output_norm"},
      {"lm_head", "output"},
      {"transformer.output_layer", "output"},
      {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},
      {"self_attn.qkv_proj", "attn_qkv"},
      {"self_attention.query_key_value", "attn_qkv"},
      {"self_attn.o_proj", "attn_output"},
      {"self_attention.dense", "attn_output"},
      {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},
      {"self_attn.q_a_proj", "attn_q_a"},
      {"self_attn.q_a_layernorm", "attn_q_a_norm"},
      {"self_attn.q_b_proj", "attn_q_b"},
      {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
      {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
      {"self_attn.kv_b_proj", "attn_kv_b"},
      {"input_layernorm", "attn_norm"},
      {"ln_mlp", "attn_norm"},
      {"ln_attn", "attn_norm_2"},
      {"pre_feedforward_layernorm", "ffn_norm"},
      {"post_self_attn_layernorm", "post_attention_norm"},
      {"post_feedforward_layernorm", "post_ffw_norm"},
      {"post_mlp_layernorm", "post_ffw_norm"},
      {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"},
      {"mlp.gate_up_proj", "ffn_up"},
      {"mlp.dense_h_to_4h", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},
      {"mlp.dense_4h_to_h", "ffn_down"},
      {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
      {"mlp.gate.", "ffn_gate_inp."},
      {"block_sparse_moe.gate.", "ffn_gate_inp."},
      {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
  };
  for (const char* shared : {"mlp.shared_expert.", "mlp.shared_experts."}) {
    for (const char* part : {"gate", "up", "down"}) {
      names.push_back({absl::StrCat(shared, part, "_proj"), absl::StrCat("ffn_", part, "_shexp")});
    }
  }
  const bool four_norms = twin.norms_plus_one && std::string_view(twin.model) != "gemma";
  names.push_back({"post_attention_layernorm", four_norms ? "post_attention_norm" : "ffn_norm"});
  return absl::StrReplaceAll(name, names);
}

std::string RowsOf(const StoredTensor& tensor, int64_t begin, int64_t count) {
  const size_t row = tensor.bytes.size() / tensor.shape[0];
  return tensor.bytes.substr(begin * row, count * row);
}

// Rows j and j + d / 2 of a head become neighbours.
void Interleave(int64_t head_dim, StoredTensor& tensor) {
  std::string out;
  for (int64_t head = 0; head < tensor.shape[0]; head += head_dim) {
    for (int64_t j = 0; j < head_dim / 2; ++j) out += RowsOf(tensor, head + j, 1) + RowsOf(tensor, head + j + head_dim / 2, 1);
  }
  tensor.bytes = std::move(out);
}

// Falcon 40B's groups of q heads, k and v become all q, all k, all v; of 4 q heads and 2 of k and v.
void Regroup(StoredTensor& tensor) {
  std::string parts[3];
  for (int64_t group = 0; group < 2; ++group) {
    parts[0] += RowsOf(tensor, group * 64, 32);
    parts[1] += RowsOf(tensor, group * 64 + 32, 16);
    parts[2] += RowsOf(tensor, group * 64 + 48, 16);
  }
  tensor.bytes = parts[0] + parts[1] + parts[2];
}

void AddOne(StoredTensor& tensor) {
  std::vector<float> values(tensor.shape[0]);
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  for (float& value : values) value += 1;
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
}

// q, k and v of Baichuan's fused tensor.
std::vector<StoredTensor> Unpack(const StoredTensor& tensor) {
  std::vector<StoredTensor> parts;
  const int64_t rows = tensor.shape[0] / 3;
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
    parts.push_back({.name = absl::StrReplaceAll(tensor.name, {{"W_pack", part}}),
                     .shape = {rows, tensor.shape[1]},
                     .bytes = RowsOf(tensor, rows * static_cast<int64_t>(parts.size()), rows)});
  }
  return parts;
}

// The stacked tensor to which an expert's belongs, or nothing.
std::string StackOf(const std::string& name) {
  const std::vector<std::string> words = absl::StrSplit(name, '.');
  const auto experts = std::find(words.begin(), words.end(), "experts");
  if (experts == words.end()) return "";
  const std::string& part = *(experts + 2);
  const char* const kind = part == "gate_proj" || part == "w1" ? "gate" : part == "up_proj" || part == "w3" ? "up" : "down";
  return absl::StrCat("blk.", words[2], ".ffn_", kind, "_exps.weight");
}

// -1: of no layer.
int LayerOf(const std::string& name) {
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(name, '.'))) {
    if (int layer = 0; absl::SimpleAtoi(word, &layer)) return layer;
  }
  return -1;
}

// Each head's rows of the key become a transposed part of one tensor, those of its value a part of another.
std::vector<StoredTensor> SplitLatent(const StoredTensor& joined, const HfConfig& config) {
  const int64_t key_dim = config.Int("qk_nope_head_dim").value(), value_dim = config.Int("v_head_dim").value();
  const int64_t heads = joined.shape[0] / (key_dim + value_dim), rank = joined.shape[1];
  StoredTensor keys{.name = absl::StrReplaceAll(joined.name, {{"kv_b", "k_b"}}), .shape = {heads, rank, key_dim}};
  StoredTensor values{.name = absl::StrReplaceAll(joined.name, {{"kv_b", "v_b"}}), .shape = {heads, value_dim, rank}};
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t first = head * (key_dim + value_dim);
    for (int64_t c = 0; c < rank; ++c) {
      for (int64_t r = 0; r < key_dim; ++r) keys.bytes += RowsOf(joined, first + r, 1).substr(c * sizeof(float), sizeof(float));
    }
    values.bytes += RowsOf(joined, first + key_dim, value_dim);
  }
  return {keys, values};
}

void AddTensors(const Twin& twin, const HfConfig& config, bool split_latent, GgufWriter& writer) {
  std::vector<StoredTensor> tensors;
  for (StoredTensor& tensor : TinyCheckpoint(twin.model)) {
    if (LayerOf(tensor.name) >= twin.layers) continue;
    if (absl::StrContains(tensor.name, "W_pack")) {
      for (StoredTensor& part : Unpack(tensor)) tensors.push_back(std::move(part));
    } else {
      tensors.push_back(std::move(tensor));
    }
  }
  std::map<std::string, StoredTensor> stacks;
  for (StoredTensor& tensor : tensors) {
    const bool qk = absl::StrContains(tensor.name, ".q_proj.") || absl::StrContains(tensor.name, ".k_proj.");
    if (twin.pairs && qk) Interleave(16, tensor);
    if (std::string_view(twin.model) == "falcon_40b" && absl::StrContains(tensor.name, "query_key_value")) Regroup(tensor);
    if (twin.norms_plus_one && absl::EndsWith(tensor.name, "norm.weight")) AddOne(tensor);
    if (const std::string stack = StackOf(tensor.name); !stack.empty()) {
      StoredTensor& all = stacks[stack];
      all.name = stack;
      all.shape = {(all.shape.empty() ? 0 : all.shape[0]) + 1, tensor.shape[0], tensor.shape[1]};
      all.bytes += tensor.bytes;
      continue;
    }
    tensor.name = GgufName(twin, tensor.name);
    if (tensor.name.ends_with("ffn_gate_inp_shexp.weight")) tensor.shape = {tensor.shape[1]};
    if (split_latent && tensor.name.ends_with("attn_kv_b.weight")) {
      for (StoredTensor& part : SplitLatent(tensor, config)) writer.Add(std::move(part));
      continue;
    }
    writer.Add(std::move(tensor));
  }
  for (auto& [name, tensor] : stacks) writer.Add(std::move(tensor));
}

}  // namespace

std::vector<std::string> GgufTwinNames() {
  std::vector<std::string> names;
  for (const Twin& twin : kTwins) names.emplace_back(twin.model);
  return names;
}

std::string ToGguf(std::string_view model, bool split_latent) {
  const auto* const twin = std::find_if(std::begin(kTwins), std::end(kTwins), [&](const Twin& t) { return t.model == model; });
  BERTH_CHECK(twin != std::end(kTwins)) << std::string(model);
  const HfConfig config =
      HfConfig::Parse(ReadFile(absl::StrCat("tests/golden/models/tiny/", twin->model, "/config.json"))).value();
  const std::string prefix = absl::StrCat(twin->architecture, ".");
  GgufWriter writer;
  writer.Set("general.architecture", std::string(twin->architecture));
  for (const auto& [key, field] : kKeys) {
    const bool one_kv_head = split_latent && key == std::string_view("attention.head_count_kv");
    if (config.Has(field) && !one_kv_head) SetKey(config, field, prefix + key, writer);
  }
  writer.Set(prefix + "block_count", int64_t{twin->layers});
  SetComputedKeys(*twin, config, prefix, split_latent, writer);
  if (twin->model == std::string_view("phi3")) {
    writer.Add(StoreFloats("rope_factors_short.weight", {6}, {1.0f, 1.1f, 1.3f, 1.6f, 2.0f, 2.5f}));
    writer.Add(StoreFloats("rope_factors_long.weight", {6}, {1, 2, 3, 4, 5, 6}));
  }
  SetTokenizer(writer);
  AddTensors(*twin, config, split_latent, writer);
  return writer.File();
}

}  // namespace berth::testing
