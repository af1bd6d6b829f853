#include "kernels/cpu/dequantize.h"

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/support.h"

namespace berth::kernels {
namespace {

constexpr int64_t kValues = 512;

class DequantizeTest : public testing::TestWithParam<DType> {};

// tests/golden/kernels/make_dequantize.py describes the files: the gguf package's own reading of the same bytes.
TEST_P(DequantizeTest, ReadsWhatTheGgufPackageReads) {
  const std::string name(Info(GetParam()).name);
  std::ifstream file("tests/golden/kernels/" + name + ".bin", std::ios::binary);
  const std::vector<char> golden{std::istreambuf_iterator<char>(file), {}};
  const size_t row_bytes = RowBytes(GetParam(), kValues);
  ASSERT_EQ(golden.size(), row_bytes + kValues * sizeof(float));
  std::vector<float> expected(kValues);
  std::memcpy(expected.data(), golden.data() + row_bytes, kValues * sizeof(float));

  // The row alone in memory of its own size, at an odd address: a sanitizer sees any byte read beyond it.
  std::vector<std::byte> bytes(row_bytes + 1);
  std::memcpy(bytes.data() + 1, golden.data(), row_bytes);
  std::vector<float> actual(kValues + 1, kGuard);
  DequantizeRow(GetParam(), bytes.data() + 1, actual.data(), kValues);
  EXPECT_EQ(actual.back(), kGuard);
  actual.pop_back();
  ExpectSameBits(actual, expected);
}

INSTANTIATE_TEST_SUITE_P(Types, DequantizeTest,
                         testing::Values(DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ8_0,
                                         DType::kQ4_K, DType::kQ6_K, DType::kQ5_1, DType::kQ2_K, DType::kQ3_K, DType::kQ5_K,
                                         DType::kIQ4_NL),
                         [](const auto& info) { return std::string(Info(info.param).name); });

TEST(Dequantize, PlainTypesOfAnyLength) {
  const std::vector<float> values = {1, -2, 0.5f, 0, 3, 4, 5, -6, 7, 8, 9, 10, 11, 12, 13, 14, -15, 16, 17};
  for (int64_t k = 0; k <= static_cast<int64_t>(values.size()); ++k) {
    std::vector<uint16_t> bf16;
    for (float value : values) {
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      bf16.push_back(static_cast<uint16_t>(bits >> 16));
    }
    bf16.resize(k);
    std::vector<float> out(k + 1, kGuard);
    DequantizeRow(DType::kBF16, reinterpret_cast<const std::byte*>(bf16.data()), out.data(), k);
    EXPECT_EQ(out.back(), kGuard);
    out.pop_back();
    EXPECT_EQ(out, (std::vector<float>(values.begin(), values.begin() + k)));
  }
}

TEST(Dequantize, OtherTypesAreABug) {
  float out[1];
  EXPECT_DEATH(DequantizeRow(DType::kI32, reinterpret_cast<const std::byte*>(out), out, 1), "weights are never i32");
}

}  // namespace
}  // namespace berth::kernels
