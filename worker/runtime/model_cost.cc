#include "worker/runtime/model_cost.h"

namespace berth::runtime {
namespace {

// What docs/performance.md has of M2, an 8B shape, on H100 and H200.
constexpr double kWeightShare = 0.75;
constexpr double kKvShare = 0.85;
constexpr double kProductShare = 0.6;
constexpr double kAttentionShare = 0.3;
constexpr double kLayerSeconds = 12e-6;

}  // namespace

engine::StepCost ModelCost(const model::DecoderSpec& spec, kernels::DType dtype, const DevicePeak& peak) {
  if (peak.bytes == 0 || peak.flops == 0) return {};
  double body = 0, kv = 0, pair = 0;
  for (const model::LayerSpec& layer : spec.layers) {
    const double query = static_cast<double>(layer.attention.q_heads) * layer.attention.head_dim;
    const auto kv_row = static_cast<double>(layer.attention.kv_elements());
    body += spec.hidden * (2 * query + kv_row + (layer.mlp.gated ? 3.0 : 2.0) * layer.mlp.intermediate);
    kv += kv_row;
    pair += 4 * query;
  }
  const double head = static_cast<double>(spec.vocab) * spec.hidden;
  const double element = static_cast<double>(kernels::RowBytes(dtype, 1)) / peak.bytes;
  return {.fixed = kLayerSeconds * static_cast<double>(spec.layers.size()),
          .weights = (body + head) * element / kWeightShare,
          .token = 2 * body / (kProductShare * peak.flops),
          .kv_token = kv * element / kKvShare,
          .pair = pair / (kAttentionShare * peak.flops)};
}

}  // namespace berth::runtime
