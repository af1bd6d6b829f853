#include "kernels/cpu/dequantize.h"

#include <cstring>

#include "kernels/cpu/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dequantize.cc"
// foreach_target.h must come first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/dequantize.inc"

HWY_BEFORE_NAMESPACE();
namespace berth::kernels::cpu::HWY_NAMESPACE {

void DequantizeOne(DType dtype, const std::byte* src, float* dst, int64_t k) { Dequantize(dtype, src, dst, k); }

}  // namespace berth::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace berth::kernels {
namespace cpu {
HWY_EXPORT(DequantizeOne);
}  // namespace cpu

void DequantizeRow(DType dtype, const std::byte* src, float* dst, int64_t k) {
  using namespace cpu;  // NOLINT: HWY_DYNAMIC_DISPATCH names the targets' namespaces relative to this one
  HWY_DYNAMIC_DISPATCH(DequantizeOne)(dtype, src, dst, k);
}

void StoreRow(const float* row, int64_t k, DType dtype, std::byte* out) {
  if (dtype == DType::kF32) {
    std::memcpy(out, row, k * sizeof(float));
    return;
  }
  uint16_t* const halves = reinterpret_cast<uint16_t*>(out);
  for (int64_t i = 0; i < k; ++i) halves[i] = dtype == DType::kBF16 ? cpu::ToBf16(row[i]) : cpu::ToHalf(row[i]);
}

}  // namespace berth::kernels
#endif
