#pragma once

#include <cstddef>
#include <vector>

#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/half.h"
#include "kernels/linear_weight.h"
#include "tests/kernels/support.h"

namespace berth::kernels {

inline constexpr DType kWeightTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,  DType::kQ4_1,
                                         DType::kQ5_0, DType::kQ8_0, DType::kQ4_K, DType::kQ6_K,  DType::kQ5_1,
                                         DType::kQ2_K, DType::kQ3_K, DType::kQ5_K, DType::kIQ4_NL};

// A random matrix in a weight's format, and the same matrix in double.
struct TestWeight {
  std::vector<std::byte> bytes;
  std::vector<double> values;
  LinearWeight view;
};

inline void StoreHalf(float value, std::byte* to) {
  const uint16_t half = cpu::ToHalf(value);
  std::memcpy(to, &half, 2);
}

// Random blocks of a quantised type: any bits are legal except in the scales, which are set to small numbers.
inline void FillQuantized(DType dtype, std::vector<std::byte>& bytes, Random& random) {
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.Below(256));
  const int block = Info(dtype).block_bytes;
  for (size_t at = 0; at < bytes.size(); at += block) {
    std::byte* start = bytes.data() + at;
    if (dtype == DType::kQ6_K) {
      StoreHalf(0.0005f * random.Normal(), start + 208);
    } else if (dtype == DType::kQ3_K) {
      StoreHalf(0.01f * random.Normal(), start + 108);
    } else if (dtype == DType::kQ2_K) {
      StoreHalf(0.03f * random.Normal(), start + 80);
      StoreHalf(0.03f * random.Normal(), start + 82);
    } else {
      const bool wide = dtype == DType::kQ4_K || dtype == DType::kQ5_K;
      const bool bytes_wide = dtype == DType::kQ8_0 || dtype == DType::kIQ4_NL;
      StoreHalf((wide ? 0.005f : bytes_wide ? 0.01f : 0.1f) * random.Normal(), start);
      if (dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || wide) StoreHalf((wide ? 0.01f : 0.5f) * random.Normal(), start + 2);
    }
  }
}

inline TestWeight MakeWeight(DType dtype, int64_t n, int64_t k, Random& random) {
  TestWeight weight;
  const size_t row_bytes = RowBytes(dtype, k);
  weight.bytes.resize(n * row_bytes);
  if (IsQuantized(dtype)) {
    FillQuantized(dtype, weight.bytes, random);
  } else {
    for (int64_t i = 0; i < n * k; ++i) {
      const float value = 0.3f * random.Normal();
      const uint16_t narrow = dtype == DType::kF16 ? cpu::ToHalf(value) : cpu::ToBf16(value);
      if (dtype == DType::kF32)
        std::memcpy(weight.bytes.data() + 4 * i, &value, 4);
      else
        std::memcpy(weight.bytes.data() + 2 * i, &narrow, 2);
    }
  }
  std::vector<float> row(k);
  for (int64_t i = 0; i < n; ++i) {
    DequantizeRow(dtype, weight.bytes.data() + i * row_bytes, row.data(), k);
    weight.values.insert(weight.values.end(), row.begin(), row.end());
  }
  weight.view = {.k = k, .segments = {{.dtype = dtype, .rows = n, .data = weight.bytes.data()}}};
  return weight;
}

}  // namespace berth::kernels
