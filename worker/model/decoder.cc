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
                         rope.high_frequency_factor, rope.original_max_position, rope.whole_pairs, rope.divisors,
                         rope.long_divisors);
}

kernels::ImageAdapter OnRows(kernels::ImageAdapter adapter, const Tensor& row) {
  adapter.row = row;
  return adapter;
}

Tensor HeadsOf(const Tensor& query, int64_t tokens, int heads, int dim) {
  return Tensor(query.raw(), query.dtype(), {tokens, heads, dim});
}

}  // namespace

LastRows LastRowsOf(const kernels::Batch& batch, const Tensor& row, const Tensor& position, const Tensor& index) {
  LastRows last{.row = row, .batch = batch};
  last.batch.tokens = last.batch.decode_sequences = batch.sequences;
  last.batch.position = position;
  last.batch.sequence_of = index.Rows(0, batch.sequences);
  last.batch.query_start = index;
  return last;
}

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const DecoderSpec& spec, const DecoderWeights& weights,
                                                         kernels::Ops& ops, kernels::Allocator& allocator,
                                                         const DecoderOptions& options) {
  BERTH_CHECK(spec.layers.size() == weights.layers.size())
      << spec.layers.size() << " layers, " << weights.layers.size() << " weights";
  BERTH_CHECK(options.max_tokens > 0);
  std::unique_ptr<Decoder> decoder(new Decoder(spec, weights, ops, options));
  BERTH_RETURN_IF_ERROR(decoder->MakeActivations(allocator, options));
  BERTH_RETURN_IF_ERROR(decoder->MakeRopeTables(allocator));
  BERTH_RETURN_IF_ERROR(decoder->MakeAlibiSlopes(allocator));
  return decoder;
}

absl::Status Decoder::MakeActivations(kernels::Allocator& allocator, const DecoderOptions& options) {
  int query = 0, intermediate = 0;
  for (const LayerSpec& layer : spec_.layers) {
    query = std::max(query, layer.attention.q_heads * std::max(layer.attention.head_dim, layer.attention.value_dim()));
    intermediate = std::max(intermediate, layer.mlp.intermediate);
  }
  BERTH_ASSIGN_OR_RETURN(activations_,
                         AllocateTensors(allocator, {{&residual_, dtype_, options.max_tokens, spec_.hidden},
                                                     {&query_, dtype_, options.max_tokens, query},
                                                     {&attended_, dtype_, options.max_tokens, query},
                                                     {&intermediate_, dtype_, options.max_tokens, intermediate},
                                                     {&last_residual_, dtype_, options.max_last_rows, spec_.hidden},
                                                     {&last_query_, dtype_, options.max_last_rows, query}}));
  return absl::OkStatus();
}

absl::Status Decoder::MakeRopeTables(kernels::Allocator& allocator) {
  std::map<decltype(Key(RopeSpec{})), Tensor> tables;
  for (const LayerSpec& layer : spec_.layers) {
    if (layer.attention.rope.rotary_dim > 0) tables[Key(layer.attention.rope)];
  }
  const auto variants = static_cast<int64_t>(spec_.rope_lengths.size()) + 1;
  std::vector<TensorRequest> requests;
  for (auto& [key, table] : tables) requests.push_back({&table, DType::kF32, variants, std::get<0>(key) / 2});
  BERTH_ASSIGN_OR_RETURN(rope_tables_, AllocateTensors(allocator, requests));
  for (const LayerSpec& layer : spec_.layers) {
    kernels::Rope& rope = rope_.emplace_back();
    if (layer.attention.rope.rotary_dim == 0) continue;
    rope.inverse_frequency = tables.at(Key(layer.attention.rope));
    rope.attention_scale = layer.attention.rope.attention_scale;
    std::vector<float> frequencies;
    for (int variant = 0; variant < variants; ++variant) {
      const std::vector<float> row = InverseFrequencies(layer.attention.rope, variant);
      frequencies.insert(frequencies.end(), row.begin(), row.end());
    }
    ops_.Upload(rope.inverse_frequency.raw(), frequencies.data(), sizeof(float) * frequencies.size());
    BERTH_RETURN_IF_ERROR(ops_.Sync());
  }
  return absl::OkStatus();
}

absl::Status Decoder::MakeAlibiSlopes(kernels::Allocator& allocator) {
  alibi_slope_.resize(spec_.layers.size());
  std::vector<TensorRequest> requests;
  for (size_t i = 0; i < alibi_slope_.size(); ++i) {
    const AttentionSpec& attention = spec_.layers[i].attention;
    if (attention.alibi != 0) requests.push_back({&alibi_slope_[i], DType::kF32, attention.q_heads});
  }
  if (requests.empty()) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(alibi_slopes_, AllocateTensors(allocator, requests));
  for (size_t i = 0; i < alibi_slope_.size(); ++i) {
    if (alibi_slope_[i].empty()) continue;
    const std::vector<float> slopes = AlibiSlopes(spec_.layers[i].attention);
    ops_.Upload(alibi_slope_[i].raw(), slopes.data(), sizeof(float) * slopes.size());
  }
  return ops_.Sync();
}

void Decoder::Forward(const DecoderInput& input) {
  BERTH_CHECK(input.kv.size() == spec_.layers.size()) << input.kv.size() << " KV layers, want " << spec_.layers.size();
  BERTH_CHECK(input.image_row.empty() || spec_.layers[0].image_rank == 0 || !weights_.layers[0].qkv_adapter.down.empty())
      << "rows of images, but the weights are those of text";
  const bool keep_last = !input.last.row.empty();
  BERTH_CHECK(!keep_last || (input.image_row.empty() && input.pool.slot.empty())) << "images or pools beside last rows";
  Rows rows{.residual = residual_.Rows(0, input.batch.tokens), .query = query_, .batch = input.batch};
  image_row_ = input.image_row;
  ops_.Embed({.token = input.token,
              .last_token = input.last_token,
              .table = weights_.embed,
              .scale = spec_.embed_scale,
              .out = rows.residual});
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    if (keep_last && i + 1 == spec_.layers.size()) {
      rows = QueryLast(i, rows, input.kv[i], input.last);
    } else {
      Query(i, rows, input.kv[i]);
    }
    Attend(i, rows, input.kv[i]);
    Finish(i, rows.residual);
  }
  if (!input.pool.slot.empty()) {
    kernels::PoolArgs pool = input.pool;
    pool.residual = rows.residual;
    pool.norm = weights_.final_norm;
    ops_.Pool(pool);
  }
  if (!input.logit_row.empty()) HeadOf(rows.residual, input.logit_row, input.logits, input.best_of);
}

void Decoder::Head(int64_t tokens, const Tensor& row, const Tensor& logits) {
  HeadOf(residual_.Rows(0, tokens), row, logits, 0);
}

void Decoder::HeadOf(const Tensor& residual, const Tensor& row, const Tensor& logits, int best_of) {
  ops_.Head({.residual = residual,
             .row = row,
             .norm = weights_.final_norm,
             .weight = weights_.head,
             .bias = weights_.head_bias,
             .scale = spec_.logit_scale,
             .softcap = spec_.logit_softcap,
             .logits = logits,
             .best_of = best_of});
}

void Decoder::Query(size_t layer, const Rows& rows, const kernels::KvLayer& kv) {
  if (spec_.layers[layer].attention.latent.rank > 0) {
    LatentIn(layer, rows, kv);
  } else {
    AttnIn(layer, rows, kv, Heads::kAll);
  }
}

void Decoder::AttnIn(size_t layer, const Rows& rows, const kernels::KvLayer& kv, Heads heads) {
  const AttentionSpec& spec = spec_.layers[layer].attention;
  const LayerWeights& weights = weights_.layers[layer];
  const int q_heads = heads == Heads::kKeysAndValues ? 0 : spec.q_heads,
            kv_heads = heads == Heads::kQueries ? 0 : spec.kv_heads;
  const int64_t first = int64_t{spec.q_heads - q_heads} * spec.head_dim,
                count = int64_t{q_heads + 2 * kv_heads} * spec.head_dim;
  ops_.AttnIn({.residual = rows.residual,
               .norm = weights.attention_norm,
               .qkv = weights.qkv.Rows(first, count),
               .adapter = OnRows(weights.qkv_adapter, image_row_),
               .bias = weights.qkv_bias.empty() ? Tensor() : weights.qkv_bias.Rows(first, count),
               .clip = spec.clip,
               .q_norm = weights.q_norm,
               .k_norm = weights.k_norm,
               .rope = rope_[layer],
               .log_length = spec.log_length,
               .q_heads = q_heads,
               .kv_heads = kv_heads,
               .head_dim = spec.head_dim,
               .batch = rows.batch,
               .kv = kv,
               .q = HeadsOf(rows.query, rows.batch.tokens, q_heads, spec.head_dim)});
}

void Decoder::LatentIn(size_t layer, const Rows& rows, const kernels::KvLayer& kv) {
  const AttentionSpec& spec = spec_.layers[layer].attention;
  const LayerWeights& weights = weights_.layers[layer];
  ops_.LatentIn({.residual = rows.residual,
                 .norm = weights.attention_norm,
                 .q_down = weights.q_down,
                 .q_down_norm = weights.q_down_norm,
                 .q = weights.q,
                 .latent = weights.latent,
                 .latent_norm = weights.latent_norm,
                 .up = weights.latent_up,
                 .rope = rope_[layer],
                 .heads = spec.q_heads,
                 .key_dim = spec.latent.key_dim,
                 .value_dim = spec.latent.value_dim,
                 .rank = spec.latent.rank,
                 .batch = rows.batch,
                 .kv = kv,
                 .q_out = HeadsOf(rows.query, rows.batch.tokens, spec.q_heads, spec.head_dim)});
}

Decoder::Rows Decoder::QueryLast(size_t layer, const Rows& rows, const kernels::KvLayer& kv, const LastRows& last) {
  const AttentionSpec& spec = spec_.layers[layer].attention;
  const int64_t tokens = rows.batch.tokens, kept = last.batch.tokens, width = int64_t{spec.q_heads} * spec.head_dim;
  const Rows out{.residual = last_residual_.Rows(0, kept), .query = last_query_, .batch = last.batch};
  const auto gather = [&](const Tensor& in, const Tensor& to) { ops_.Gather({.in = in, .row = last.row, .out = to}); };
  if (last_queries_ && spec.latent.rank == 0) {
    AttnIn(layer, rows, kv, Heads::kKeysAndValues);
    gather(rows.residual, out.residual);
    AttnIn(layer, out, kv, Heads::kQueries);
  } else {
    Query(layer, rows, kv);
    gather(rows.residual, out.residual);
    gather(Tensor(rows.query.raw(), dtype_, {tokens, width}), Tensor(out.query.raw(), dtype_, {kept, width}));
  }
  return out;
}

void Decoder::Attend(size_t layer, const Rows& rows, const kernels::KvLayer& kv) {
  const AttentionSpec& spec = spec_.layers[layer].attention;
  ops_.Attend({.q = HeadsOf(rows.query, rows.batch.tokens, spec.q_heads, spec.head_dim),
               .batch = rows.batch,
               .kv = kv,
               .scale = spec.scale,
               .window = spec.window,
               .softcap = spec.softcap,
               .alibi_slope = alibi_slope_[layer],
               .out = Tensor(attended_.raw(), dtype_, {rows.batch.tokens, spec.q_heads, kv.value_dim})});
}

// In parallel layers attention and MLP read the same residual: all of both but their additions comes first.
void Decoder::Finish(size_t layer, const Tensor& residual) {
  const LayerSpec& spec = spec_.layers[layer];
  if (!spec.parallel) AttentionOut(layer, residual);
  if (spec.mlp.intermediate > 0) MlpUp(layer, residual);
  if (spec.parallel) AttentionOut(layer, residual);
  if (spec.moe.routing.experts > 0) Moe(layer, residual);
  if (spec.mlp.intermediate > 0) MlpDown(layer, residual);
}

// Each head's own values of what it attended to. They take the queries' place.
Tensor Decoder::LatentOut(size_t layer, int64_t tokens) {
  const AttentionSpec& spec = spec_.layers[layer].attention;
  const Tensor values(query_.raw(), dtype_, {tokens, spec.q_heads, spec.latent.value_dim});
  ops_.LatentOut({.in = Tensor(attended_.raw(), dtype_, {tokens, spec.q_heads, spec.latent.rank}),
                  .up = weights_.layers[layer].latent_up,
                  .key_dim = spec.latent.key_dim,
                  .value_dim = spec.latent.value_dim,
                  .out = values});
  return values;
}

void Decoder::AttentionOut(size_t layer, const Tensor& residual) {
  const LayerSpec& spec = spec_.layers[layer];
  const LayerWeights& weights = weights_.layers[layer];
  const int64_t tokens = residual.dim(0);
  const Tensor attended = spec.attention.latent.rank > 0 ? LatentOut(layer, tokens) : attended_;
  ops_.AttnOut({.in = Tensor(attended.raw(), dtype_, {tokens, weights.attention_out.k}),
                .weight = weights.attention_out,
                .adapter = OnRows(weights.attention_out_adapter, image_row_),
                .bias = weights.attention_out_bias,
                .post_norm = weights.attention_post_norm,
                .scale = spec.branch_scale,
                .residual = residual});
}

void Decoder::MlpUp(size_t layer, const Tensor& residual) {
  const LayerSpec& spec = spec_.layers[layer];
  const LayerWeights& weights = weights_.layers[layer];
  ops_.MlpUp({.residual = residual,
              .norm = spec.shared_norm ? weights.attention_norm : weights.mlp_norm,
              .weight = weights.mlp_up,
              .adapter = OnRows(weights.mlp_up_adapter, image_row_),
              .bias = weights.mlp_up_bias,
              .gated = spec.mlp.gated,
              .activation = spec.mlp.activation,
              .row_gate = weights.mlp_row_gate,
              .out = Tensor(intermediate_.raw(), dtype_, {residual.dim(0), spec.mlp.intermediate})});
}

void Decoder::MlpDown(size_t layer, const Tensor& residual) {
  const LayerSpec& spec = spec_.layers[layer];
  const LayerWeights& weights = weights_.layers[layer];
  ops_.MlpDown({.in = Tensor(intermediate_.raw(), dtype_, {residual.dim(0), spec.mlp.intermediate}),
                .weight = weights.mlp_down,
                .adapter = OnRows(weights.mlp_down_adapter, image_row_),
                .bias = weights.mlp_down_bias,
                .post_norm = weights.mlp_post_norm,
                .scale = spec.branch_scale,
                .residual = residual});
}

void Decoder::Moe(size_t layer, const Tensor& residual) {
  const MoeSpec& spec = spec_.layers[layer].moe;
  const LayerWeights& weights = weights_.layers[layer];
  ops_.Moe({.residual = residual,
            .norm = weights.mlp_norm,
            .router = weights.router,
            .router_bias = weights.router_bias,
            .routing = spec.routing,
            .up = weights.experts_up,
            .down = weights.experts_down,
            .activation = spec.activation});
}

}  // namespace berth::model
