#include "worker/model/decoder.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/check.h"
#include "base/status.h"
#include "worker/model/rope_table.h"
#include "worker/model/tensor_arena.h"

namespace berth::model {
namespace {

using kernels::DType;
using kernels::Tensor;

auto Key(const RopeSpec& rope) {
  return std::make_tuple(rope.rotary_dim, rope.theta, rope.scaling, rope.factor, rope.low_frequency_factor,
                         rope.high_frequency_factor, rope.original_max_position);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const DecoderSpec& spec, const DecoderWeights& weights,
                                                         kernels::Ops& ops, kernels::Allocator& allocator,
                                                         const DecoderOptions& options) {
  BERTH_CHECK(spec.layers.size() == weights.layers.size())
      << spec.layers.size() << " layers, " << weights.layers.size() << " weights";
  BERTH_CHECK(options.max_tokens > 0);
  std::unique_ptr<Decoder> decoder(new Decoder(spec, weights, ops, options.dtype));
  BERTH_RETURN_IF_ERROR(decoder->MakeActivations(allocator, options.max_tokens));
  BERTH_RETURN_IF_ERROR(decoder->MakeRopeTables(allocator));
  return decoder;
}

absl::Status Decoder::MakeActivations(kernels::Allocator& allocator, int max_tokens) {
  int query = 0, intermediate = 0;
  for (const LayerSpec& layer : spec_.layers) {
    query = std::max(query, layer.attention.q_heads * layer.attention.head_dim);
    intermediate = std::max(intermediate, layer.mlp.intermediate);
  }
  BERTH_ASSIGN_OR_RETURN(activations_, AllocateTensors(allocator, {{&residual_, dtype_, max_tokens, spec_.hidden},
                                                                   {&query_, dtype_, max_tokens, query},
                                                                   {&attended_, dtype_, max_tokens, query},
                                                                   {&intermediate_, dtype_, max_tokens, intermediate}}));
  return absl::OkStatus();
}

absl::Status Decoder::MakeRopeTables(kernels::Allocator& allocator) {
  std::map<decltype(Key(RopeSpec{})), Tensor> tables;
  for (const LayerSpec& layer : spec_.layers) {
    if (layer.attention.rope.rotary_dim > 0) tables[Key(layer.attention.rope)];
  }
  std::vector<TensorRequest> requests;
  for (auto& [key, table] : tables) requests.push_back({&table, DType::kF32, 1, std::get<0>(key) / 2});
  BERTH_ASSIGN_OR_RETURN(rope_tables_, AllocateTensors(allocator, requests));
  for (const LayerSpec& layer : spec_.layers) {
    kernels::Rope& rope = rope_.emplace_back();
    if (layer.attention.rope.rotary_dim == 0) continue;
    rope.inverse_frequency = tables.at(Key(layer.attention.rope));
    const std::vector<float> frequencies = InverseFrequencies(layer.attention.rope);
    ops_.Upload(rope.inverse_frequency.raw(), frequencies.data(), sizeof(float) * frequencies.size());
  }
  return ops_.Sync();
}

void Decoder::Forward(const DecoderInput& input) {
  BERTH_CHECK(input.kv.size() == spec_.layers.size()) << input.kv.size() << " KV layers, want " << spec_.layers.size();
  const Tensor residual = residual_.Rows(0, input.batch.tokens);
  ops_.Embed({.token = input.token,
              .last_token = input.last_token,
              .table = weights_.embed,
              .scale = spec_.embed_scale,
              .out = residual});
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    Attention(i, residual, input.batch, input.kv[i]);
    Mlp(i, residual);
  }
  if (input.logit_row.empty()) return;
  ops_.Head({.residual = residual,
             .row = input.logit_row,
             .norm = weights_.final_norm,
             .weight = weights_.head,
             .bias = weights_.head_bias,
             .scale = spec_.logit_scale,
             .softcap = spec_.logit_softcap,
             .logits = input.logits});
}

void Decoder::Attention(size_t layer, const Tensor& residual, const kernels::Batch& batch, const kernels::KvLayer& kv) {
  const AttentionSpec& spec = spec_.layers[layer].attention;
  const LayerWeights& weights = weights_.layers[layer];
  const int64_t tokens = residual.dim(0);
  const Tensor query(query_.raw(), dtype_, {tokens, spec.q_heads, spec.head_dim});
  const Tensor attended(attended_.raw(), dtype_, {tokens, spec.q_heads, spec.head_dim});
  ops_.AttnIn({.residual = residual,
               .norm = weights.attention_norm,
               .qkv = weights.qkv,
               .bias = weights.qkv_bias,
               .clip = spec.clip,
               .q_norm = weights.q_norm,
               .k_norm = weights.k_norm,
               .rope = rope_[layer],
               .q_heads = spec.q_heads,
               .kv_heads = spec.kv_heads,
               .head_dim = spec.head_dim,
               .batch = batch,
               .kv = kv,
               .q = query});
  ops_.Attend({.q = query,
               .batch = batch,
               .kv = kv,
               .scale = spec.scale,
               .window = spec.window,
               .softcap = spec.softcap,
               .out = attended});
  ops_.AttnOut({.in = Tensor(attended_.raw(), dtype_, {tokens, spec.q_heads * spec.head_dim}),
                .weight = weights.attention_out,
                .bias = weights.attention_out_bias,
                .residual = residual});
}

void Decoder::Mlp(size_t layer, const Tensor& residual) {
  const MlpSpec& spec = spec_.layers[layer].mlp;
  const LayerWeights& weights = weights_.layers[layer];
  const Tensor intermediate(intermediate_.raw(), dtype_, {residual.dim(0), spec.intermediate});
  ops_.MlpUp({.residual = residual,
              .norm = weights.mlp_norm,
              .weight = weights.mlp_up,
              .bias = weights.mlp_up_bias,
              .gated = spec.gated,
              .activation = spec.activation,
              .out = intermediate});
  ops_.MlpDown({.in = intermediate, .weight = weights.mlp_down, .bias = weights.mlp_down_bias, .residual = residual});
}

}  // namespace berth::model
