#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/loader/gguf.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

namespace berth::loader {

// What rope.dimension_count and attention.value_length mean.
enum class GgufHeads : uint8_t { kWholeHeadRotates, kPartRotates, kLatent };

// How GGUF holds one architecture.
struct GgufArchitecture {
  std::string_view name;        // general.architecture
  std::string_view class_name;  // whose configuration and meaning it has
  GgufHeads heads = GgufHeads::kWholeHeadRotates;
  model::Transform qk_order = model::Transform::kCopy;  // of q and k rows
  model::Transform norms = model::Transform::kCopy;     // of norms' weights
  bool fused_up = false;                                // ffn_up has gate and up, or there is no gate
  bool leaves_f16 = false;                              // activations are known to grow beyond 65504
  // Adds what no key says, or keys say in other words.
  absl::Status (*complete)(const GgufFile& file, const std::string& prefix, model::HfConfig& config) = nullptr;
};

// UNIMPLEMENTED names an architecture that is not in the table.
absl::StatusOr<const GgufArchitecture*> FindGgufArchitecture(const GgufMetadata& metadata);

// The dtype of a GPU's weights, activations and KV for such tensors: f16 if every matrix is f16 or blocks, whose f16 scales
// bf16 would round, and activations stay in its range; otherwise, and for no tensors, bf16.
kernels::DType PreferredDType(const GgufArchitecture& architecture, const CheckpointIndex& tensors);

// Null when there is none of that name.
const TensorInfo* FindTensor(const GgufFile& file, std::string_view name);

}  // namespace berth::loader
