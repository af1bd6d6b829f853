#include "worker/loader/slot_members.h"

#include <optional>

#include "base/check.h"
#include "base/status.h"

namespace berth::loader {
namespace {

using kernels::LinearWeight;
using kernels::Tensor;
using model::Slot;

void SetUpNorm(const model::NormSpec& spec, kernels::Norm& norm) {
  norm.kind = spec.kind;
  norm.epsilon = spec.epsilon;
  norm.weight_offset = spec.weight_offset;
}

}  // namespace

model::DecoderWeights EmptyWeights(const model::DecoderSpec& spec) {
  model::DecoderWeights out;
  SetUpNorm(spec.final_norm, out.final_norm);
  for (const model::LayerSpec& layer : spec.layers) {
    model::LayerWeights& weights = out.layers.emplace_back();
    SetUpNorm(layer.attention_norm, weights.attention_norm);
    SetUpNorm(layer.mlp_norm, weights.mlp_norm);
    SetUpNorm(layer.attention_norm, weights.attention_post_norm);
    SetUpNorm(layer.mlp_norm, weights.mlp_post_norm);
    SetUpNorm(layer.attention.latent.norm, weights.q_down_norm);
    SetUpNorm(layer.attention.latent.norm, weights.latent_norm);
    for (kernels::Norm* norm : {&weights.q_norm, &weights.k_norm}) {
      norm->epsilon = layer.attention_norm.epsilon;
      norm->weight_offset = layer.attention_norm.weight_offset;
    }
  }
  return out;
}

LinearWeight* MatrixMember(model::DecoderWeights& weights, Slot slot, int layer) {
  switch (slot) {
    case Slot::kEmbed:
      return &weights.embed;
    case Slot::kHead:
      return &weights.head;
    case Slot::kQkv:
      return &weights.layers[layer].qkv;
    case Slot::kQDown:
      return &weights.layers[layer].q_down;
    case Slot::kQ:
      return &weights.layers[layer].q;
    case Slot::kLatent:
      return &weights.layers[layer].latent;
    case Slot::kLatentUp:
      return &weights.layers[layer].latent_up;
    case Slot::kAttentionOut:
      return &weights.layers[layer].attention_out;
    case Slot::kMlpUp:
      return &weights.layers[layer].mlp_up;
    case Slot::kMlpDown:
      return &weights.layers[layer].mlp_down;
    case Slot::kMlpRowGate:
      return &weights.layers[layer].mlp_row_gate;
    case Slot::kRouter:
      return &weights.layers[layer].router;
    case Slot::kExpertsUp:
      return &weights.layers[layer].experts_up;
    case Slot::kExpertsDown:
      return &weights.layers[layer].experts_down;
    case Slot::kQkvAdapterDown:
      return &weights.layers[layer].qkv_adapter.down;
    case Slot::kQkvAdapterUp:
      return &weights.layers[layer].qkv_adapter.up;
    case Slot::kAttentionOutAdapterDown:
      return &weights.layers[layer].attention_out_adapter.down;
    case Slot::kAttentionOutAdapterUp:
      return &weights.layers[layer].attention_out_adapter.up;
    case Slot::kMlpUpAdapterDown:
      return &weights.layers[layer].mlp_up_adapter.down;
    case Slot::kMlpUpAdapterUp:
      return &weights.layers[layer].mlp_up_adapter.up;
    case Slot::kMlpDownAdapterDown:
      return &weights.layers[layer].mlp_down_adapter.down;
    case Slot::kMlpDownAdapterUp:
      return &weights.layers[layer].mlp_down_adapter.up;
    default:
      return nullptr;
  }
}

Tensor& VectorMember(model::DecoderWeights& all, Slot slot, int layer) {
  if (slot == Slot::kFinalNorm) return all.final_norm.weight;
  if (slot == Slot::kFinalNormBias) return all.final_norm.bias;
  model::LayerWeights& weights = all.layers[layer];
  switch (slot) {
    case Slot::kAttentionNorm:
      return weights.attention_norm.weight;
    case Slot::kAttentionNormBias:
      return weights.attention_norm.bias;
    case Slot::kQkvBias:
      return weights.qkv_bias;
    case Slot::kQDownNorm:
      return weights.q_down_norm.weight;
    case Slot::kLatentNorm:
      return weights.latent_norm.weight;
    case Slot::kQNorm:
      return weights.q_norm.weight;
    case Slot::kKNorm:
      return weights.k_norm.weight;
    case Slot::kAttentionOutBias:
      return weights.attention_out_bias;
    case Slot::kAttentionPostNorm:
      return weights.attention_post_norm.weight;
    case Slot::kMlpPostNorm:
      return weights.mlp_post_norm.weight;
    case Slot::kRouterBias:
      return weights.router_bias;
    case Slot::kMlpNorm:
      return weights.mlp_norm.weight;
    case Slot::kMlpNormBias:
      return weights.mlp_norm.bias;
    case Slot::kMlpUpBias:
      return weights.mlp_up_bias;
    default:
      BERTH_CHECK(slot == Slot::kMlpDownBias) << model::Info(slot).name << " is a matrix";
  }
  return weights.mlp_down_bias;
}

absl::Status ForEachSlot(const model::DecoderSpec& spec,
                         absl::FunctionRef<absl::Status(Slot slot, int layer, const model::SlotShape& shape)> visit) {
  for (int i = 0; i < model::kSlotCount; ++i) {
    const Slot slot = static_cast<Slot>(i);
    const int layers = model::Info(slot).per_layer ? static_cast<int>(spec.layers.size()) : 1;
    for (int layer = 0; layer < layers; ++layer) {
      const std::optional<model::SlotShape> shape = model::ShapeOf(spec, slot, layer);
      if (shape.has_value()) BERTH_RETURN_IF_ERROR(visit(slot, layer, *shape));
    }
  }
  return absl::OkStatus();
}

}  // namespace berth::loader
