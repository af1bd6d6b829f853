#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace berth::kernels::cuda {

// Queues the conversion of `elements` values that lie in the device's memory at `source`, from any dtype of weights to bf16 or
// f16. Equal bits to kernels/cpu/dequantize.h followed by one rounding, but for the payload of a NaN. `source` is aligned to 4
// bytes.
void ConvertWeights(DType from, const std::byte* source, int64_t elements, DType to, std::byte* out, cudaStream_t stream);

// Queues kernels/random_weight.h's elements 0 … elements - 1, rounded to bf16 or f16.
void FillRandomWeights(uint64_t seed, float scale, int64_t elements, DType to, std::byte* out, cudaStream_t stream);

}  // namespace berth::kernels::cuda
