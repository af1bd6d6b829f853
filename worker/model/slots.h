#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/container/inlined_vector.h"
#include "worker/model/decoder_spec.h"

namespace berth::model {

// The canonical places that a checkpoint's tensors fill; DecoderWeights has one member per slot.
enum class Slot : uint8_t {
  kEmbed,
  kAttentionNorm,
  kAttentionNormBias,
  kQkv,  // parts: q, k, v
  kQkvBias,
  kQDown,
  kQDownNorm,
  kQ,
  kLatent,
  kLatentNorm,
  kLatentUp,
  kQNorm,
  kKNorm,
  kAttentionOut,
  kAttentionOutBias,
  kAttentionPostNorm,
  kMlpNorm,
  kMlpNormBias,
  kMlpUp,  // parts: gate, up when gated; else one
  kMlpUpBias,
  kMlpDown,
  kMlpDownBias,
  kMlpRowGate,
  kRouter,
  kRouterBias,
  kExpertsUp,    // parts: every expert's gate, then every expert's up
  kExpertsDown,  // parts: every expert's
  kMlpPostNorm,
  kFinalNorm,
  kFinalNormBias,
  kHead,
  kQkvAdapterDown,  // adapters on rows of images, as in kernels::ImageAdapter
  kQkvAdapterUp,    // parts: q, k, v
  kAttentionOutAdapterDown,
  kAttentionOutAdapterUp,
  kMlpUpAdapterDown,  // parts: gate, up when gated; else one
  kMlpUpAdapterUp,    // the same
  kMlpDownAdapterDown,
  kMlpDownAdapterUp,
};
inline constexpr int kSlotCount = static_cast<int>(Slot::kMlpDownAdapterUp) + 1;

// Which dimension tensor parallelism divides: the rows of every part, the columns, or none (each rank has all of it).
enum class ParallelAxis : uint8_t { kNone, kRows, kColumns };

struct SlotInfo {
  std::string_view name;
  bool per_layer = false;
  ParallelAxis axis = ParallelAxis::kNone;
  bool adapter = false;  // acts on rows of images only
};
const SlotInfo& Info(Slot slot);

// Rows of each part, in order, and columns; 0 columns: a vector.
struct SlotShape {
  absl::InlinedVector<int64_t, 3> part_rows;
  int64_t columns = 0;
  int64_t row_unit = 1;  // rows that ranks may not divide (a head's)

  int64_t rows() const {
    int64_t total = 0;
    for (int64_t rows : part_rows) total += rows;
    return total;
  }
};

// Nothing when a model of this spec has no such slot. `layer` is ignored for slots that are not per layer.
std::optional<SlotShape> ShapeOf(const DecoderSpec& spec, Slot slot, int layer);

}  // namespace berth::model
