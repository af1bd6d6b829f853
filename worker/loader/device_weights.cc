#include "worker/loader/device_weights.h"

#include <algorithm>
#include <list>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "worker/loader/slot_members.h"

namespace berth::loader {
namespace {

using kernels::LinearWeight;
using kernels::Tensor;
using model::Slot;
using model::SlotShape;

constexpr float kRandomScale = 0.02f;

bool IsTied(const model::DecoderSpec& spec, Slot slot) { return slot == Slot::kHead && spec.tied_head; }

// 1 where a norm multiplies, 0 for biases.
float ConstantValue(const model::DecoderSpec& spec, Slot slot, int layer) {
  switch (slot) {
    case Slot::kFinalNorm:
      return 1 - spec.final_norm.weight_offset;
    case Slot::kAttentionNorm:
    case Slot::kAttentionPostNorm:
    case Slot::kQNorm:
    case Slot::kKNorm:
      return 1 - spec.layers[layer].attention_norm.weight_offset;
    case Slot::kMlpNorm:
    case Slot::kMlpPostNorm:
      return 1 - spec.layers[layer].mlp_norm.weight_offset;
    default:
      return 0;
  }
}

int64_t Numbers(const SlotShape& shape) { return shape.rows() * std::max<int64_t>(shape.columns, 1); }

// Returns how many numbers there will be.
absl::StatusOr<int64_t> Reserve(const model::DecoderSpec& spec, bool image_rows, kernels::WeightUploader& uploader) {
  kernels::WeightSizes sizes;
  BERTH_RETURN_IF_ERROR(ForEachSlot(spec, [&](Slot slot, int layer, const SlotShape& shape) {
    if (IsTied(spec, slot) || (model::Info(slot).adapter && !image_rows)) return absl::OkStatus();
    ++sizes.weights;
    (shape.columns > 0 ? sizes.matrix_elements : sizes.vector_elements) += Numbers(shape);
    return absl::OkStatus();
  }));
  BERTH_RETURN_IF_ERROR(uploader.Reserve(sizes));
  return sizes.matrix_elements + sizes.vector_elements;
}

absl::StatusOr<MaterializedWeights> Finish(model::DecoderWeights weights, kernels::WeightUploader& uploader) {
  BERTH_ASSIGN_OR_RETURN(std::vector<kernels::Buffer> buffers, uploader.Finish());
  MaterializedWeights out{.weights = std::move(weights)};
  for (kernels::Buffer& buffer : buffers) out.memory.push_back(std::make_shared<kernels::Buffer>(std::move(buffer)));
  return out;
}

// The rows of the uploaded embedding that are, on the host, rows of the embedding too.
LinearWeight TiedHead(const LinearWeight& host_embed, const LinearWeight& host_head, const LinearWeight& embed) {
  const LinearWeight::Segment& host = host_embed.segments.front();
  LinearWeight head = embed;
  head.segments.front().rows = host_head.n();
  const int64_t first = (host_head.segments.front().data - host.data) / kernels::RowBytes(host.dtype, host_embed.k);
  head.segments.front().data += first * kernels::RowBytes(head.segments.front().dtype, head.k);
  return head;
}

}  // namespace

absl::StatusOr<MaterializedWeights> UploadWeights(const model::DecoderSpec& spec, const model::DecoderWeights& host,
                                                  kernels::WeightUploader& uploader, const Progress& progress,
                                                  bool image_rows) {
  BERTH_ASSIGN_OR_RETURN(const int64_t total, Reserve(spec, image_rows, uploader));
  ProgressMeter meter(progress, total);
  model::DecoderWeights weights = host;
  BERTH_RETURN_IF_ERROR(ForEachSlot(spec, [&](Slot slot, int layer, const SlotShape& shape) -> absl::Status {
    LinearWeight* const matrix = MatrixMember(weights, slot, layer);
    if (model::Info(slot).adapter && !image_rows) {
      *matrix = {};
      return absl::OkStatus();
    }
    if (IsTied(spec, slot)) {
      *matrix = TiedHead(host.embed, host.head, weights.embed);
      return absl::OkStatus();
    }
    if (matrix != nullptr) {
      BERTH_ASSIGN_OR_RETURN(*matrix, uploader.Matrix(*matrix));
    } else {
      Tensor& vector = VectorMember(weights, slot, layer);
      BERTH_ASSIGN_OR_RETURN(vector, uploader.Vector(vector));
    }
    meter.Add(Numbers(shape));
    return absl::OkStatus();
  }));
  return Finish(std::move(weights), uploader);
}

absl::StatusOr<MaterializedWeights> RandomWeights(const model::DecoderSpec& spec, uint64_t seed,
                                                  kernels::WeightUploader& uploader, const Progress& progress) {
  BERTH_ASSIGN_OR_RETURN(const int64_t total, Reserve(spec, /*image_rows=*/false, uploader));
  ProgressMeter meter(progress, total);
  model::DecoderWeights weights = EmptyWeights(spec);
  std::list<std::vector<float>> vectors;  // stay until the uploader has copied them
  const auto constant = [&](int64_t size, float value) {
    std::vector<float>& values = vectors.emplace_back(size, value);
    return uploader.Vector(Tensor(values.data(), kernels::DType::kF32, {size}));
  };
  BERTH_RETURN_IF_ERROR(ForEachSlot(spec, [&](Slot slot, int layer, const SlotShape& shape) -> absl::Status {
    LinearWeight* const matrix = MatrixMember(weights, slot, layer);
    if (model::Info(slot).adapter) return absl::OkStatus();
    if (IsTied(spec, slot)) {
      *matrix = weights.embed;
      return absl::OkStatus();
    }
    if (matrix != nullptr) {
      const uint64_t own_seed = base::HashCombine(base::HashCombine(seed, static_cast<uint64_t>(slot)), layer);
      BERTH_ASSIGN_OR_RETURN(*matrix, uploader.Random(shape.rows(), shape.columns, own_seed, kRandomScale));
    } else {
      BERTH_ASSIGN_OR_RETURN(VectorMember(weights, slot, layer), constant(shape.rows(), ConstantValue(spec, slot, layer)));
    }
    meter.Add(Numbers(shape));
    return absl::OkStatus();
  }));
  return Finish(std::move(weights), uploader);
}

}  // namespace berth::loader
