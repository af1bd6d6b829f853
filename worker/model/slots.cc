#include "worker/model/slots.h"

#include <array>

namespace berth::model {
namespace {

constexpr std::array<SlotInfo, kSlotCount> kSlots = {{
    {"embed", false, ParallelAxis::kNone},
    {"attention_norm", true, ParallelAxis::kNone},
    {"attention_norm_bias", true, ParallelAxis::kNone},
    {"qkv", true, ParallelAxis::kRows},
    {"qkv_bias", true, ParallelAxis::kRows},
    {"q_down", true, ParallelAxis::kNone},
    {"q_down_norm", true, ParallelAxis::kNone},
    {"q", true, ParallelAxis::kRows},
    {"latent", true, ParallelAxis::kNone},
    {"latent_norm", true, ParallelAxis::kNone},
    {"latent_up", true, ParallelAxis::kRows},
    {"q_norm", true, ParallelAxis::kNone},
    {"k_norm", true, ParallelAxis::kNone},
    {"attention_out", true, ParallelAxis::kColumns},
    {"attention_out_bias", true, ParallelAxis::kNone},
    {"attention_post_norm", true, ParallelAxis::kNone},
    {"mlp_norm", true, ParallelAxis::kNone},
    {"mlp_norm_bias", true, ParallelAxis::kNone},
    {"mlp_up", true, ParallelAxis::kRows},
    {"mlp_up_bias", true, ParallelAxis::kRows},
    {"mlp_down", true, ParallelAxis::kColumns},
    {"mlp_down_bias", true, ParallelAxis::kNone},
    {"mlp_row_gate", true, ParallelAxis::kNone},
    {"router", true, ParallelAxis::kNone},
    {"router_bias", true, ParallelAxis::kNone},
    {"experts_up", true, ParallelAxis::kRows},
    {"experts_down", true, ParallelAxis::kColumns},
    {"mlp_post_norm", true, ParallelAxis::kNone},
    {"final_norm", false, ParallelAxis::kNone},
    {"final_norm_bias", false, ParallelAxis::kNone},
    {"head", false, ParallelAxis::kRows},
    {"qkv_adapter_down", true, ParallelAxis::kNone, true},
    {"qkv_adapter_up", true, ParallelAxis::kRows, true},
    {"attention_out_adapter_down", true, ParallelAxis::kColumns, true},
    {"attention_out_adapter_up", true, ParallelAxis::kNone, true},
    {"mlp_up_adapter_down", true, ParallelAxis::kNone, true},
    {"mlp_up_adapter_up", true, ParallelAxis::kRows, true},
    {"mlp_down_adapter_down", true, ParallelAxis::kColumns, true},
    {"mlp_down_adapter_up", true, ParallelAxis::kNone, true},
}};

using MaybeShape = std::optional<SlotShape>;

MaybeShape Vector(int64_t size) { return SlotShape{.part_rows = {size}}; }
MaybeShape Matrix(int64_t rows, int64_t columns) { return SlotShape{.part_rows = {rows}, .columns = columns}; }
MaybeShape If(bool present, MaybeShape shape) { return present ? shape : std::nullopt; }

SlotShape QkvShape(const AttentionSpec& attention, int64_t columns) {
  const int64_t q = static_cast<int64_t>(attention.q_heads) * attention.head_dim;
  const int64_t kv = static_cast<int64_t>(attention.kv_heads) * attention.head_dim;
  return {.part_rows = {q, kv, kv}, .columns = columns, .row_unit = attention.head_dim};
}

SlotShape MlpUpShape(const MlpSpec& mlp, int64_t columns) {
  SlotShape shape{.part_rows = {mlp.intermediate}, .columns = columns};
  if (mlp.gated) shape.part_rows.push_back(mlp.intermediate);
  return shape;
}

MaybeShape Parts(int64_t count, int64_t rows, int64_t columns) {
  return SlotShape{.part_rows = absl::InlinedVector<int64_t, 3>(count, rows), .columns = columns};
}

MaybeShape MlpShape(const DecoderSpec& spec, Slot slot, const LayerSpec& layer) {
  switch (slot) {
    case Slot::kMlpUp:
      return MlpUpShape(layer.mlp, spec.hidden);
    case Slot::kMlpUpBias:
      return If(layer.mlp.bias, MlpUpShape(layer.mlp, 0));
    case Slot::kMlpDown:
      return Matrix(spec.hidden, layer.mlp.intermediate);
    case Slot::kMlpDownBias:
      return If(layer.mlp.bias, Vector(spec.hidden));
    default:
      return If(layer.mlp.row_gate, Matrix(1, spec.hidden));
  }
}

MaybeShape MoeShape(const DecoderSpec& spec, Slot slot, const MoeSpec& moe) {
  const int64_t experts = moe.routing.experts;
  switch (slot) {
    case Slot::kRouter:
      return Matrix(experts, spec.hidden);
    case Slot::kRouterBias:
      return If(moe.router_bias, Vector(experts));
    case Slot::kExpertsUp:
      return Parts(2 * experts, moe.intermediate, spec.hidden);
    default:
      return Parts(experts, spec.hidden, moe.intermediate);
  }
}

// Of a head's rows.
MaybeShape HeadsShape(const AttentionSpec& attention, int64_t head_rows, int64_t columns) {
  return SlotShape{.part_rows = {attention.q_heads * head_rows}, .columns = columns, .row_unit = head_rows};
}

MaybeShape LatentShape(const DecoderSpec& spec, Slot slot, const AttentionSpec& attention) {
  const LatentSpec& latent = attention.latent;
  const int64_t rope_dim = attention.head_dim - latent.rank;
  switch (slot) {
    case Slot::kQDown:
      return If(latent.q_rank > 0, Matrix(latent.q_rank, spec.hidden));
    case Slot::kQDownNorm:
      return If(latent.q_rank > 0, Vector(latent.q_rank));
    case Slot::kQ:
      return HeadsShape(attention, latent.key_dim + rope_dim, latent.q_rank > 0 ? latent.q_rank : spec.hidden);
    case Slot::kLatent:
      return Matrix(attention.head_dim, spec.hidden);
    case Slot::kLatentNorm:
      return Vector(latent.rank);
    default:
      return HeadsShape(attention, latent.key_dim + latent.value_dim, latent.rank);
  }
}

MaybeShape AdapterShape(const DecoderSpec& spec, Slot slot, const LayerSpec& layer) {
  const int64_t rank = layer.image_rank;
  switch (slot) {
    case Slot::kQkvAdapterDown:
      return Matrix(rank, spec.hidden);
    case Slot::kQkvAdapterUp:
      return QkvShape(layer.attention, rank);
    case Slot::kAttentionOutAdapterDown:
      return Matrix(rank, static_cast<int64_t>(layer.attention.q_heads) * layer.attention.value_dim());
    case Slot::kMlpUpAdapterDown:
      return Parts(layer.mlp.gated ? 2 : 1, rank, spec.hidden);
    case Slot::kMlpUpAdapterUp:
      return MlpUpShape(layer.mlp, rank);
    case Slot::kMlpDownAdapterDown:
      return Matrix(rank, layer.mlp.intermediate);
    default:
      return Matrix(spec.hidden, rank);
  }
}

MaybeShape LayerShape(const DecoderSpec& spec, Slot slot, const LayerSpec& layer) {
  const AttentionSpec& attention = layer.attention;
  switch (slot) {
    case Slot::kAttentionNorm:
      return Vector(spec.hidden);
    case Slot::kMlpNorm:
      return If(!layer.shared_norm, Vector(spec.hidden));
    case Slot::kAttentionPostNorm:
      return If(layer.attention_post_norm, Vector(spec.hidden));
    case Slot::kMlpPostNorm:
      return If(layer.mlp_post_norm, Vector(spec.hidden));
    case Slot::kAttentionNormBias:
      return If(layer.attention_norm.bias, Vector(spec.hidden));
    case Slot::kMlpNormBias:
      return If(layer.mlp_norm.bias && !layer.shared_norm, Vector(spec.hidden));
    case Slot::kQkv:
      return If(attention.latent.rank == 0, QkvShape(attention, spec.hidden));
    case Slot::kQkvBias:
      return If(attention.qkv_bias, QkvShape(attention, 0));
    case Slot::kQDown:
    case Slot::kQDownNorm:
    case Slot::kQ:
    case Slot::kLatent:
    case Slot::kLatentNorm:
    case Slot::kLatentUp:
      return attention.latent.rank > 0 ? LatentShape(spec, slot, attention) : std::nullopt;
    case Slot::kQNorm:
    case Slot::kKNorm:
      return If(attention.qk_norm, Vector(attention.head_dim));
    case Slot::kAttentionOut:
      return Matrix(spec.hidden, static_cast<int64_t>(attention.q_heads) * attention.value_dim());
    case Slot::kAttentionOutBias:
      return If(attention.out_bias, Vector(spec.hidden));
    case Slot::kMlpUp:
    case Slot::kMlpUpBias:
    case Slot::kMlpDown:
    case Slot::kMlpDownBias:
    case Slot::kMlpRowGate:
      return layer.mlp.intermediate > 0 ? MlpShape(spec, slot, layer) : std::nullopt;
    case Slot::kRouter:
    case Slot::kRouterBias:
    case Slot::kExpertsUp:
    case Slot::kExpertsDown:
      return layer.moe.routing.experts > 0 ? MoeShape(spec, slot, layer.moe) : std::nullopt;
    default:
      return layer.image_rank > 0 ? AdapterShape(spec, slot, layer) : std::nullopt;
  }
}

}  // namespace

const SlotInfo& Info(Slot slot) { return kSlots[static_cast<int>(slot)]; }

MaybeShape ShapeOf(const DecoderSpec& spec, Slot slot, int layer) {
  switch (slot) {
    case Slot::kEmbed:
    case Slot::kHead:
      return Matrix(spec.vocab, spec.hidden);
    case Slot::kFinalNorm:
      return Vector(spec.hidden);
    case Slot::kFinalNormBias:
      return If(spec.final_norm.bias, Vector(spec.hidden));
    default:
      return LayerShape(spec, slot, spec.layers[layer]);
  }
}

}  // namespace berth::model
