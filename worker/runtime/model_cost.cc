#include "worker/runtime/model_cost.h"

#include <optional>

#include "worker/model/slots.h"

namespace berth::runtime {
namespace {

// What docs/performance.md has of M2, an 8B shape, on H100 and H200.
constexpr double kWeightShare = 0.75;
constexpr double kKvShare = 0.85;
constexpr double kProductShare = 0.6;
constexpr double kAttentionShare = 0.3;
constexpr double kLayerSeconds = 12e-6;
constexpr int kProductTile = 128;
// Products of experts run on scalar f32, whose peak on an H100 is 67 TFLOP/s, 0.07 of that of its matrix products; six loads
// from shared memory for eight multiplications leave at most a quarter of it, and waiting for the weights some of that. Not
// measured.
constexpr double kExpertShare = 0.01;

// Elements of all layers' matrices.
struct Matrices {
  double all = 0;     // experts and all else
  double dense = 0;   // what every token is multiplied with
  double chosen = 0;  // of the experts of a token
};

Matrices CountMatrices(const model::DecoderSpec& spec) {
  Matrices count;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const kernels::Routing& routing = spec.layers[i].moe.routing;
    for (int s = 0; s < model::kSlotCount; ++s) {
      const auto slot = static_cast<model::Slot>(s);
      if (!model::Info(slot).per_layer || model::Info(slot).adapter) continue;
      const std::optional<model::SlotShape> shape = model::ShapeOf(spec, slot, static_cast<int>(i));
      if (!shape) continue;
      const double elements = static_cast<double>(shape->rows()) * static_cast<double>(shape->columns);
      count.all += elements;
      if (slot == model::Slot::kExpertsUp || slot == model::Slot::kExpertsDown) {
        count.chosen += elements * routing.top_k / routing.experts;
      } else {
        count.dense += elements;
      }
    }
  }
  return count;
}

}  // namespace

engine::StepCost ModelCost(const model::DecoderSpec& spec, kernels::DType dtype, const DevicePeak& peak) {
  if (peak.bytes == 0 || peak.flops == 0) return {};
  const Matrices matrices = CountMatrices(spec);
  double kv = 0, pair = 0;
  for (const model::LayerSpec& layer : spec.layers) {
    const model::AttentionSpec& attention = layer.attention;
    const int value_dim = attention.latent.rank > 0 ? attention.latent.rank : attention.head_dim;
    kv += static_cast<double>(attention.kv_elements());
    pair += 2.0 * attention.q_heads * (attention.head_dim + value_dim);
  }
  const double head = static_cast<double>(spec.vocab) * spec.hidden;
  const double element = static_cast<double>(kernels::RowBytes(dtype, 1)) / peak.bytes;
  return {.fixed = kLayerSeconds * static_cast<double>(spec.layers.size()),
          .weights = (matrices.all + head) * element / kWeightShare,
          .token = 2 * matrices.dense / (kProductShare * peak.flops) + 2 * matrices.chosen / (kExpertShare * peak.flops),
          .kv_token = kv * element / kKvShare,
          .pair = pair / (kAttentionShare * peak.flops),
          .tile = kProductTile};
}

}  // namespace berth::runtime
