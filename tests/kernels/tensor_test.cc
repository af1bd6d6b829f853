#include "kernels/tensor.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/buffer.h"
#include "kernels/cpu/half.h"

namespace berth::kernels {
namespace {

TEST(DType, RowBytesCountsBlocks) {
  EXPECT_EQ(RowBytes(DType::kF32, 5), 20u);
  EXPECT_EQ(RowBytes(DType::kBF16, 5), 10u);
  EXPECT_EQ(RowBytes(DType::kQ4_1, 576), 360u);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 512), 420u);
  EXPECT_DEATH(RowBytes(DType::kQ4_0, 33), "q4_0 row of 33");
}

TEST(Tensor, ViewsRowsOfStridedMemory) {
  std::vector<float> memory(20);
  const Tensor tensor(memory.data(), DType::kF32, {4, 3}, {5, 1});
  EXPECT_FALSE(tensor.contiguous());
  EXPECT_EQ(tensor.elements(), 12);
  const Tensor rows = tensor.Rows(1, 2);
  EXPECT_EQ(rows.data<float>(), memory.data() + 5);
  EXPECT_EQ(rows.dim(0), 2);
  EXPECT_EQ(rows.DebugString(), "f32[2, 3]");
  EXPECT_TRUE(tensor.Rows(3, 1).contiguous());
  EXPECT_EQ(tensor.Rows(4, 0).elements(), 0);
  EXPECT_DEATH(tensor.Rows(3, 2), "rows \\[3, 5\\) of f32\\[4, 3\\]");
  EXPECT_DEATH(tensor.data<uint16_t>(), "f32\\[4, 3\\]");
}

TEST(Tensor, EmptyStandsForAbsent) {
  EXPECT_TRUE(Tensor().empty());
  EXPECT_EQ(Tensor(nullptr, DType::kBF16, {2}).DebugString(), "bf16[2] without data");
}

TEST(Buffer, IsAlignedZeroedAndRefusesTheImpossible) {
  const auto buffer = HostAllocator().Allocate(1000);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 256, 0u);
  EXPECT_EQ(buffer->bytes(), 1000u);
  const std::vector<char> zeros(1000);
  EXPECT_EQ(std::memcmp(buffer->data(), zeros.data(), 1000), 0);
  const size_t bytes = ~size_t{0};
  const auto refused = HostAllocator().Allocate(bytes);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(refused.status().message().find(std::to_string(bytes)), std::string::npos);
}

TEST(Half, EveryValueSurvivesARoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const bool half_nan = (bits & 0x7C00) == 0x7C00 && (bits & 0x3FF) != 0;
    if (half_nan) {
      EXPECT_TRUE(std::isnan(cpu::FromHalf(half)));
      EXPECT_TRUE(std::isnan(cpu::FromHalf(cpu::ToHalf(cpu::FromHalf(half)))));
    } else {
      ASSERT_EQ(cpu::ToHalf(cpu::FromHalf(half)), half);
    }
    const float wide = cpu::FromBf16(half);
    ASSERT_TRUE(std::isnan(wide) || cpu::ToBf16(wide) == half) << bits;
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(cpu::FromHalf(0x3C01), 1 + 0x1p-10f);
  EXPECT_EQ(cpu::ToHalf(1 + 0x1p-11f), 0x3C00);
  EXPECT_EQ(cpu::ToHalf(1 + 3 * 0x1p-11f), 0x3C02);
  EXPECT_EQ(cpu::ToHalf(1 + 0x1.1p-11f), 0x3C01);
  EXPECT_EQ(cpu::ToHalf(65519.99f), 0x7BFF);
  EXPECT_EQ(cpu::ToHalf(65520.f), 0x7C00);
  EXPECT_EQ(cpu::ToHalf(-0x1p-25f), 0x8000);
  EXPECT_EQ(cpu::ToHalf(0x1.8p-25f), 0x0001);
  EXPECT_EQ(cpu::ToHalf(0x1.ffcp-15f), 0x0400);
  EXPECT_EQ(cpu::ToBf16(1 + 0x1p-8f), 0x3F80);
  EXPECT_EQ(cpu::ToBf16(1 + 3 * 0x1p-8f), 0x3F82);
  EXPECT_TRUE(std::isnan(cpu::FromBf16(cpu::ToBf16(std::nanf("")))));
}

}  // namespace
}  // namespace berth::kernels
