#include "tests/support/tiny_gguf.h"

#include "absl/strings/str_replace.h"
#include "kernels/cpu/dequantize.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"

namespace berth::testing {
namespace {

using kernels::DType;

std::string GgufName(const std::string& name) {
  return absl::StrReplaceAll(name, {{"model.layers.", "blk."},
                                    {"model.embed_tokens", "token_embd"},
                                    {"model.norm", "output_norm"},
                                    {"lm_head", "output"},
                                    {"self_attn.q_proj", "attn_q"},
                                    {"self_attn.k_proj", "attn_k"},
                                    {"self_attn.v_proj", "attn_v"},
                                    {"self_attn.o_proj", "attn_output"},
                                    {"input_layernorm", "attn_norm"},
                                    {"post_attention_layernorm", "ffn_norm"},
                                    {"mlp.gate_proj", "ffn_gate"},
                                    {"mlp.up_proj", "ffn_up"},
                                    {"mlp.down_proj", "ffn_down"}});
}

// What converters to GGUF do to llama's q and k: rows j and j + d / 2 of a head become neighbours.
std::string Interleave(const StoredTensor& tensor, int64_t head_dim) {
  const size_t row = tensor.bytes.size() / tensor.shape[0];
  std::string out;
  for (int64_t head = 0; head < tensor.shape[0]; head += head_dim) {
    for (int64_t j = 0; j < head_dim / 2; ++j) {
      out += tensor.bytes.substr((head + j) * row, row);
      out += tensor.bytes.substr((head + j + head_dim / 2) * row, row);
    }
  }
  return out;
}

std::vector<float> Dequantize(const StoredTensor& tensor) {
  std::vector<float> values(tensor.shape[0] * tensor.shape[1]);
  const size_t row = kernels::RowBytes(tensor.dtype, tensor.shape[1]);
  for (int64_t i = 0; i < tensor.shape[0]; ++i) {
    kernels::DequantizeRow(tensor.dtype, reinterpret_cast<const std::byte*>(tensor.bytes.data()) + i * row,
                           values.data() + i * tensor.shape[1], tensor.shape[1]);
  }
  return values;
}

void SetMetadata(GgufWriter& writer) {
  writer.Set("general.architecture", std::string("llama"));
  writer.Set("llama.block_count", int64_t{3});
  writer.Set("llama.context_length", int64_t{256});
  writer.Set("llama.embedding_length", int64_t{64});
  writer.Set("llama.feed_forward_length", int64_t{96});
  writer.Set("llama.attention.head_count", int64_t{4});
  writer.Set("llama.attention.head_count_kv", int64_t{2});
  writer.Set("llama.attention.layer_norm_rms_epsilon", 0.5);
  writer.Set("llama.rope.dimension_count", int64_t{16});
  writer.Set("llama.rope.freq_base", 10000.0);
  writer.Set("tokenizer.ggml.model", std::string("llama"));
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int64_t> types = {2, 3, 3};
  for (int i = 0; tokens.size() < 288; ++i) {
    tokens.push_back("t" + std::to_string(i));
    types.push_back(1);
  }
  writer.Set("tokenizer.ggml.scores", std::vector<double>(tokens.size(), 0.0));
  writer.Set("tokenizer.ggml.tokens", tokens);
  writer.Set("tokenizer.ggml.token_type", types);
  writer.Set("tokenizer.ggml.bos_token_id", int64_t{1});
  writer.Set("tokenizer.ggml.eos_token_id", int64_t{2});
}

}  // namespace

TinyGguf MakeTinyGguf(DType dtype, bool tied) {
  TinyGguf model;
  SetMetadata(model.writer);
  for (StoredTensor& tensor : TinyCheckpoint("llama")) {
    if (tied && tensor.name == "lm_head.weight") continue;
    if (tensor.shape.size() == 1) {
      model.checkpoint.push_back(tensor);
      tensor.name = GgufName(tensor.name);
      model.writer.Add(std::move(tensor));
      continue;
    }
    StoredTensor quantised = RandomMatrix(tensor.name, dtype, tensor.shape[0], tensor.shape[1]);
    model.checkpoint.push_back(StoreFloats(tensor.name, tensor.shape, Dequantize(quantised)));
    const bool rotary = tensor.name.find("q_proj") != std::string::npos || tensor.name.find("k_proj") != std::string::npos;
    if (rotary) quantised.bytes = Interleave(quantised, 16);
    quantised.name = GgufName(quantised.name);
    model.writer.Add(std::move(quantised));
  }
  return model;
}

}  // namespace berth::testing
