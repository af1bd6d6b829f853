#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/context.h"

namespace berth::kernels::cuda {

struct MapDimension {
  int64_t size;    // elements
  int64_t stride;  // bytes; the innermost dimension has no gaps
  int64_t box;     // elements
};

// A tensor map for bulk copies, innermost dimension first. False if the driver refuses it.
bool MapTensor(const Context& context, CUtensorMapDataType type, CUtensorMapSwizzle swizzle, const std::byte* data,
               std::span<const MapDimension> dimensions, CUtensorMap& map);

}  // namespace berth::kernels::cuda
