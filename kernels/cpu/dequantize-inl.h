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
#include "kernels/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace berth::kernels::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;
using Ints = hn::Rebind<int32_t, Floats>;
using Bytes = hn::Rebind<uint8_t, Floats>;
using SignedBytes = hn::Rebind<int8_t, Floats>;
using FloatVec = hn::Vec<Floats>;
using IntVec = hn::Vec<Ints>;
constexpr int kFloatLanes = hn::MaxLanes(Floats());

// The f16 number at `bytes`, in every lane.
HWY_INLINE FloatVec LoadHalf(const uint8_t* bytes) {
  const hn::Rebind<uint16_t, Floats> words;
  const hn::Rebind<hwy::float16_t, Floats> halves;
  uint16_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return hn::PromoteTo(Floats(), hn::BitCast(halves, hn::Set(words, word)));
}

HWY_INLINE IntVec LoadBytes(const uint8_t* bytes) { return hn::PromoteTo(Ints(), hn::LoadU(Bytes(), bytes)); }
HWY_INLINE IntVec LoadSignedBytes(const uint8_t* bytes) {
  return hn::PromoteTo(Ints(), hn::LoadU(SignedBytes(), reinterpret_cast<const int8_t*>(bytes)));
}
HWY_INLINE IntVec LowBits(IntVec v, int mask) { return hn::And(v, hn::Set(Ints(), mask)); }

// dst = quant * scale, and the same plus `minimum`.
HWY_INLINE void StoreScaled(IntVec quant, FloatVec scale, float* dst) {
  hn::StoreU(hn::Mul(hn::ConvertTo(Floats(), quant), scale), Floats(), dst);
}
HWY_INLINE void StoreScaled(IntVec quant, FloatVec scale, FloatVec minimum, float* dst) {
  hn::StoreU(hn::Add(hn::Mul(hn::ConvertTo(Floats(), quant), scale), minimum), Floats(), dst);
}

// scale f16, 16 bytes of nibbles: value i in the low nibble of byte i, value i + 16 in the high one; minus 8.
HWY_INLINE void BlockQ4_0(const uint8_t* block, float* dst) {
  const FloatVec scale = LoadHalf(block);
  const IntVec eight = hn::Set(Ints(), 8);
  for (int i = 0; i < 16; i += kFloatLanes) {
    const IntVec nibbles = LoadBytes(block + 2 + i);
    StoreScaled(hn::Sub(LowBits(nibbles, 15), eight), scale, dst + i);
    StoreScaled(hn::Sub(hn::ShiftRight<4>(nibbles), eight), scale, dst + 16 + i);
  }
}

// scale f16, minimum f16, nibbles as in Q4_0.
HWY_INLINE void BlockQ4_1(const uint8_t* block, float* dst) {
#if HWY_TARGET == HWY_AVX3
  // One vector holds the block's 16 different values. Scale and minimum are converted together, as neighbouring lanes.
  int32_t pair;
  std::memcpy(&pair, block, sizeof(pair));
  const hn::Rebind<hwy::float16_t, Floats> halves;
  const auto pairs = hn::Set(hn::Repartition<int32_t, decltype(halves)>(), pair);
  const FloatVec both = hn::PromoteTo(Floats(), hn::BitCast(halves, pairs));
  const FloatVec values = hn::Add(hn::Mul(hn::Iota(Floats(), 0), hn::DupEven(both)), hn::DupOdd(both));
  const IntVec nibbles = LoadBytes(block + 4);
  const auto low = hn::IndicesFromVec(Floats(), LowBits(nibbles, 15));
  const auto high = hn::IndicesFromVec(Floats(), hn::ShiftRight<4>(nibbles));
  hn::StoreU(hn::TableLookupLanes(values, low), Floats(), dst);
  hn::StoreU(hn::TableLookupLanes(values, high), Floats(), dst + 16);
#else
  const FloatVec scale = LoadHalf(block), minimum = LoadHalf(block + 2);
  for (int i = 0; i < 16; i += kFloatLanes) {
    const IntVec nibbles = LoadBytes(block + 4 + i);
    StoreScaled(LowBits(nibbles, 15), scale, minimum, dst + i);
    StoreScaled(hn::ShiftRight<4>(nibbles), scale, minimum, dst + 16 + i);
  }
#endif
}

// scale f16, 32 fifth bits, nibbles as in Q4_0; minus 16.
HWY_INLINE void BlockQ5_0(const uint8_t* block, float* dst) {
  const FloatVec scale = LoadHalf(block);
  const IntVec sixteen = hn::Set(Ints(), 16);
  int32_t high;
  std::memcpy(&high, block + 2, sizeof(high));
  const auto fifth = [&](int first) HWY_ATTR {
    const IntVec bits = hn::Shr(hn::Set(Ints(), high), hn::Iota(Ints(), first));
    return hn::ShiftLeft<4>(LowBits(bits, 1));
  };
  for (int i = 0; i < 16; i += kFloatLanes) {
    const IntVec nibbles = LoadBytes(block + 6 + i);
    StoreScaled(hn::Sub(hn::Or(LowBits(nibbles, 15), fifth(i)), sixteen), scale, dst + i);
    StoreScaled(hn::Sub(hn::Or(hn::ShiftRight<4>(nibbles), fifth(16 + i)), sixteen), scale, dst + 16 + i);
  }
}

// scale f16, 32 signed bytes.
HWY_INLINE void BlockQ8_0(const uint8_t* block, float* dst) {
  const FloatVec scale = LoadHalf(block);
  for (int i = 0; i < 32; i += kFloatLanes) StoreScaled(LoadSignedBytes(block + 2 + i), scale, dst + i);
}

// scale f16, scale of the minimums f16, 12 bytes of eight 6-bit scales and minimums, nibbles. Values 64 j + i (i < 32) are the
// low nibbles of bytes 32 j + i and belong to sub-block 2 j, values 64 j + 32 + i the high ones and sub-block 2 j + 1.
HWY_INLINE void BlockQ4_K(const uint8_t* block, float* dst) {
  const float scale = hn::GetLane(LoadHalf(block)), minimum_scale = hn::GetLane(LoadHalf(block + 2));
  const uint8_t *packed = block + 4, *nibbles = block + 16;
  const auto sub_scale = [&](int sub) HWY_ATTR {
    const int quant = sub < 4 ? packed[sub] & 63 : (packed[sub + 4] & 15) | (packed[sub - 4] >> 6 << 4);
    return hn::Set(Floats(), scale * static_cast<float>(quant));
  };
  const auto sub_minimum = [&](int sub) HWY_ATTR {
    const int quant = sub < 4 ? packed[sub + 4] & 63 : (packed[sub + 4] >> 4) | (packed[sub] >> 6 << 4);
    return hn::Set(Floats(), -(minimum_scale * static_cast<float>(quant)));
  };
  for (int j = 0; j < 4; ++j) {
    const FloatVec scale0 = sub_scale(2 * j), scale1 = sub_scale(2 * j + 1);
    const FloatVec minimum0 = sub_minimum(2 * j), minimum1 = sub_minimum(2 * j + 1);
    for (int i = 0; i < 32; i += kFloatLanes) {
      const IntVec bytes = LoadBytes(nibbles + 32 * j + i);
      StoreScaled(LowBits(bytes, 15), scale0, minimum0, dst + 64 * j + i);
      StoreScaled(hn::ShiftRight<4>(bytes), scale1, minimum1, dst + 64 * j + 32 + i);
    }
  }
}

// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales (one for 16 values), scale f16; minus 32. Value
// 128 h + 32 j + i (j < 4, i < 32) has its low bits in byte 64 h + 32 (j % 2) + i, its upper ones in byte 32 h + i.
HWY_INLINE void BlockQ6_K(const uint8_t* block, float* dst) {
  const float scale = hn::GetLane(LoadHalf(block + 208));
  const int8_t* scales = reinterpret_cast<const int8_t*>(block + 192);
  const IntVec offset = hn::Set(Ints(), 32);
  for (int h = 0; h < 2; ++h) {
    for (int i = 0; i < 32; i += kFloatLanes) {
      const IntVec low0 = LoadBytes(block + 64 * h + i), low1 = LoadBytes(block + 64 * h + 32 + i);
      const IntVec high = LoadBytes(block + 128 + 32 * h + i);
      const auto store = [&](int j, IntVec low, IntVec pair) HWY_ATTR {
        const int part = 4 * h + j;
        const FloatVec sub_scale = hn::Set(Floats(), scale * static_cast<float>(scales[2 * part + i / 16]));
        const IntVec quant = hn::Or(low, hn::ShiftLeft<4>(LowBits(pair, 3)));
        StoreScaled(hn::Sub(quant, offset), sub_scale, dst + 32 * part + i);
      };
      store(0, LowBits(low0, 15), high);
      store(1, LowBits(low1, 15), hn::ShiftRight<2>(high));
      store(2, hn::ShiftRight<4>(low0), hn::ShiftRight<4>(high));
      store(3, hn::ShiftRight<4>(low1), hn::ShiftRight<6>(high));
    }
  }
}

// A row of f16 or bf16; the values that fill no vector go one at a time.
template <typename T>
HWY_INLINE void RowOfHalves(const uint8_t* src, float* dst, int64_t k) {
  const auto convert = [&](auto d, int64_t i) HWY_ATTR {
    HWY_ALIGN T halves[hn::MaxLanes(d)];
    std::memcpy(halves, src + 2 * i, sizeof(halves));
    hn::StoreU(hn::PromoteTo(d, hn::Load(hn::Rebind<T, decltype(d)>(), halves)), d, dst + i);
  };
  int64_t i = 0;
  for (; i + kFloatLanes <= k; i += kFloatLanes) convert(Floats(), i);
  for (; i < k; ++i) convert(hn::CappedTag<float, 1>(), i);
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
      RowOfHalves<hwy::float16_t>(src, dst, k);
      break;
    case DType::kBF16:
      RowOfHalves<hwy::bfloat16_t>(src, dst, k);
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
