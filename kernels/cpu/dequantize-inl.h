// Included once per SIMD target. Block formats: GGUF specification and ggml-common.h; a block's bytes come in the order named.

#if defined(BERTH_KERNELS_CPU_DEQUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BERTH_KERNELS_CPU_DEQUANTIZE_INL_H_
#undef BERTH_KERNELS_CPU_DEQUANTIZE_INL_H_
#else
#define BERTH_KERNELS_CPU_DEQUANTIZE_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/half.h"
#include "kernels/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace berth::kernels::cpu::HWY_NAMESPACE {

template <typename T>
HWY_INLINE T LoadAs(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

HWY_INLINE float LoadHalf(const uint8_t* bytes) { return FromHalf(LoadAs<uint16_t>(bytes)); }

// scale f16, 16 bytes of nibbles: value i in the low nibble of byte i, value i + 16 in the high one; minus 8.
HWY_INLINE void BlockQ4_0(const uint8_t* block, float* dst) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < 16; ++i) {
    dst[i] = static_cast<float>((block[2 + i] & 15) - 8) * scale;
    dst[i + 16] = static_cast<float>((block[2 + i] >> 4) - 8) * scale;
  }
}

// scale f16, minimum f16, nibbles as in Q4_0.
HWY_INLINE void BlockQ4_1(const uint8_t* block, float* dst) {
  const float scale = LoadHalf(block), minimum = LoadHalf(block + 2);
  for (int i = 0; i < 16; ++i) {
    dst[i] = static_cast<float>(block[4 + i] & 15) * scale + minimum;
    dst[i + 16] = static_cast<float>(block[4 + i] >> 4) * scale + minimum;
  }
}

// scale f16, 32 fifth bits, nibbles as in Q4_0; minus 16.
HWY_INLINE void BlockQ5_0(const uint8_t* block, float* dst) {
  const float scale = LoadHalf(block);
  const uint32_t high = LoadAs<uint32_t>(block + 2);
  for (int i = 0; i < 16; ++i) {
    const int low = (block[6 + i] & 15) | static_cast<int>(high >> i << 4 & 16);
    const int top = (block[6 + i] >> 4) | static_cast<int>(high >> (i + 16) << 4 & 16);
    dst[i] = static_cast<float>(low - 16) * scale;
    dst[i + 16] = static_cast<float>(top - 16) * scale;
  }
}

// scale f16, 32 signed bytes.
HWY_INLINE void BlockQ8_0(const uint8_t* block, float* dst) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < 32; ++i) dst[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * scale;
}

// scale f16, scale of the minimums f16, 12 bytes of eight 6-bit scales and minimums, nibbles. Values 64 j + i (i < 32) are the
// low nibbles of bytes 32 j + i and belong to sub-block 2 j, values 64 j + 32 + i the high ones and sub-block 2 j + 1.
HWY_INLINE void BlockQ4_K(const uint8_t* block, float* dst) {
  const float scale = LoadHalf(block), minimum_scale = LoadHalf(block + 2);
  const uint8_t *packed = block + 4, *nibbles = block + 16;
  for (int sub = 0; sub < 8; ++sub) {
    const bool first = sub < 4;
    const int quant = first ? packed[sub] & 63 : (packed[sub + 4] & 15) | (packed[sub - 4] >> 6 << 4);
    const int minimum_quant = first ? packed[sub + 4] & 63 : (packed[sub + 4] >> 4) | (packed[sub] >> 6 << 4);
    const float sub_scale = scale * static_cast<float>(quant), minimum = minimum_scale * static_cast<float>(minimum_quant);
    const uint8_t* bytes = nibbles + sub / 2 * 32;
    const int shift = sub % 2 * 4;
    for (int i = 0; i < 32; ++i) dst[32 * sub + i] = sub_scale * static_cast<float>(bytes[i] >> shift & 15) - minimum;
  }
}

// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales (one for 16 values), scale f16; minus 32. Value
// 128 h + 32 j + i (j < 4, i < 32) has its low bits in byte 64 h + 32 (j % 2) + i, its upper ones in byte 32 h + i.
HWY_INLINE void BlockQ6_K(const uint8_t* block, float* dst) {
  const float scale = LoadHalf(block + 208);
  for (int part = 0; part < 8; ++part) {
    const int half = part / 4, j = part % 4;
    const uint8_t *low = block + 64 * half + 32 * (j % 2), *high = block + 128 + 32 * half;
    for (int i = 0; i < 32; ++i) {
      const float sub_scale = scale * static_cast<float>(static_cast<int8_t>(block[192 + 2 * part + i / 16]));
      const int quant = (low[i] >> (j / 2 * 4) & 15) | ((high[i] >> (2 * j) & 3) << 4);
      dst[32 * part + i] = sub_scale * static_cast<float>(quant - 32);
    }
  }
}

template <int kBytes, int kElements, typename Block>
HWY_INLINE void Blocks(const uint8_t* src, float* dst, int64_t k, const Block& block) {
  for (int64_t i = 0; i < k; i += kElements, src += kBytes) block(src, dst + i);
}

HWY_INLINE void Dequantize(DType dtype, const std::byte* bytes, float* dst, int64_t k) {
  const uint8_t* src = reinterpret_cast<const uint8_t*>(bytes);
  switch (dtype) {
    case DType::kF32:
      std::memcpy(dst, src, k * sizeof(float));
      break;
    case DType::kF16:
      Blocks<2, 1>(src, dst, k, [](const uint8_t* s, float* d) HWY_ATTR { *d = LoadHalf(s); });
      break;
    case DType::kBF16:
      Blocks<2, 1>(src, dst, k, [](const uint8_t* s, float* d) HWY_ATTR { *d = FromBf16(LoadAs<uint16_t>(s)); });
      break;
    case DType::kQ4_0:
      Blocks<18, 32>(src, dst, k, [](const uint8_t* s, float* d) HWY_ATTR { BlockQ4_0(s, d); });
      break;
    case DType::kQ4_1:
      Blocks<20, 32>(src, dst, k, [](const uint8_t* s, float* d) HWY_ATTR { BlockQ4_1(s, d); });
      break;
    case DType::kQ5_0:
      Blocks<22, 32>(src, dst, k, [](const uint8_t* s, float* d) HWY_ATTR { BlockQ5_0(s, d); });
      break;
    case DType::kQ8_0:
      Blocks<34, 32>(src, dst, k, [](const uint8_t* s, float* d) HWY_ATTR { BlockQ8_0(s, d); });
      break;
    case DType::kQ4_K:
      Blocks<144, 256>(src, dst, k, [](const uint8_t* s, float* d) HWY_ATTR { BlockQ4_K(s, d); });
      break;
    case DType::kQ6_K:
      Blocks<210, 256>(src, dst, k, [](const uint8_t* s, float* d) HWY_ATTR { BlockQ6_K(s, d); });
      break;
    default:
      BERTH_CHECK(false) << "weights are never " << Info(dtype).name;
  }
}

}  // namespace berth::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BERTH_KERNELS_CPU_DEQUANTIZE_INL_H_
