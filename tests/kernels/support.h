#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/ops.h"

namespace berth::kernels {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kGuard = 12345.75f;

// Seeded random numbers; the seed shows in a failure through SCOPED_TRACE of the caller's case.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  float Normal() { return normal_(engine_); }
  int Below(int n) { return static_cast<int>(engine_() % static_cast<uint32_t>(n)); }
  std::vector<float> Normals(int64_t count, float scale = 1) {
    std::vector<float> values(count);
    for (float& value : values) value = Normal() * scale;
    return values;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

// A matrix whose rows lie `gap` floats apart, with guard words before, between and after the rows.
class GuardedRows {
 public:
  GuardedRows(int64_t rows, int64_t dim, int64_t gap) : rows_(rows), dim_(dim), stride_(dim + gap) {
    data_.assign(kFront + rows * stride_, kGuard);
  }
  GuardedRows(int64_t rows, int64_t dim, int64_t gap, const std::vector<float>& values) : GuardedRows(rows, dim, gap) {
    for (int64_t i = 0; i < rows * dim; ++i) at(i / dim, i % dim) = values[i];
  }

  Tensor tensor() { return Tensor(data_.data() + kFront, DType::kF32, {rows_, dim_}, {stride_, 1}); }
  // [rows, heads, dim / heads]
  Tensor heads(int64_t heads) {
    return Tensor(data_.data() + kFront, DType::kF32, {rows_, heads, dim_ / heads}, {stride_, dim_ / heads, 1});
  }
  float& at(int64_t row, int64_t i) { return data_[kFront + row * stride_ + i]; }
  std::vector<float> values() {
    std::vector<float> out;
    for (int64_t i = 0; i < rows_ * dim_; ++i) out.push_back(at(i / dim_, i % dim_));
    return out;
  }
  void ExpectGuardsIntact() {
    for (int64_t i = 0; i < static_cast<int64_t>(data_.size()); ++i) {
      const bool guard = i < kFront || (i - kFront) % stride_ >= dim_;
      ASSERT_TRUE(!guard || data_[i] == kGuard) << "guard word " << i << " was overwritten";
    }
  }

 private:
  static constexpr int64_t kFront = 5;
  int64_t rows_, dim_, stride_;
  std::vector<float> data_;
};

template <typename T>
Tensor Ints(std::vector<T>& values) {
  static_assert(sizeof(T) == 4);
  return Tensor(values.data(), std::is_signed_v<T> ? DType::kI32 : DType::kU32, {static_cast<int64_t>(values.size())});
}

inline Tensor Floats(std::vector<float>& values) {
  return Tensor(values.data(), DType::kF32, {static_cast<int64_t>(values.size())});
}

// |actual - expected| <= tolerance * (1 + |expected|) everywhere.
inline void ExpectClose(const std::vector<float>& actual, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_LE(std::abs(actual[i] - expected[i]), tolerance * (1 + std::abs(expected[i])))
        << "element " << i << " is " << actual[i] << ", want " << expected[i];
  }
}

// Bit equality, NaN included.
inline void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_EQ(std::memcmp(&a[i], &b[i], 4), 0) << "element " << i << ": " << a[i] << ", " << b[i];
}

}  // namespace berth::kernels
