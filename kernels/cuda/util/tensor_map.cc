#include "kernels/cuda/util/tensor_map.h"

namespace berth::kernels::cuda {

bool MapTensor(const Context& context, CUtensorMapDataType type, CUtensorMapSwizzle swizzle, const std::byte* data,
               std::span<const MapDimension> dimensions, CUtensorMap& map) {
  constexpr int kMaxRank = 5;
  cuuint64_t sizes[kMaxRank] = {}, strides[kMaxRank] = {};
  cuuint32_t box[kMaxRank] = {};
  for (size_t i = 0; i < dimensions.size(); ++i) {
    sizes[i] = static_cast<cuuint64_t>(dimensions[i].size);
    box[i] = static_cast<cuuint32_t>(dimensions[i].box);
    if (i > 0) strides[i - 1] = static_cast<cuuint64_t>(dimensions[i].stride);
  }
  const cuuint32_t steps[kMaxRank] = {1, 1, 1, 1, 1};
  return context.encode_tiled(&map, type, static_cast<cuuint32_t>(dimensions.size()), const_cast<std::byte*>(data), sizes,
                              strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace berth::kernels::cuda
