#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace berth::kernels {

// Writes the `k` values of one weight row as f32: f32, f16, bf16 and the quantised types. `k` is a multiple of the block size.
// Values are those of the GGUF reference (scale times quant, then the minimum, each rounded to f32).
void DequantizeRow(DType dtype, const std::byte* src, float* dst, int64_t k);

// The reverse for f32, f16 and bf16: rounds to nearest even.
void StoreRow(const float* row, int64_t k, DType dtype, std::byte* out);

}  // namespace berth::kernels
