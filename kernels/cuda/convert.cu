#include <type_traits>

#include "base/check.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/util/numeric.cuh"
#include "kernels/random_weight.h"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Element `i` of consecutive blocks of a GGUF type; kernels/cpu/dequantize.inc describes the blocks. Products and sums are
// rounded one by one, as there.
template <DType dtype>
__device__ float ElementOf(const uint8_t* source, int64_t i);

__device__ float HalfAt(const uint8_t* bytes) { return __half2float(*reinterpret_cast<const __half*>(bytes)); }

// The nibble of value i of 32, of which the first 16 are low ones.
__device__ int NibbleOf(const uint8_t* nibbles, int i) { return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4; }

template <>
__device__ float ElementOf<DType::kF32>(const uint8_t* source, int64_t i) {
  return reinterpret_cast<const float*>(source)[i];
}

template <>
__device__ float ElementOf<DType::kF16>(const uint8_t* source, int64_t i) {
  return HalfAt(source + 2 * i);
}

template <>
__device__ float ElementOf<DType::kBF16>(const uint8_t* source, int64_t i) {
  return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(source)[i]);
}

template <>
__device__ float ElementOf<DType::kQ4_0>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 32 * 18;
  return __fmul_rn(static_cast<float>(NibbleOf(block + 2, i % 32) - 8), HalfAt(block));
}

template <>
__device__ float ElementOf<DType::kQ4_1>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 32 * 20;
  return __fadd_rn(__fmul_rn(static_cast<float>(NibbleOf(block + 4, i % 32)), HalfAt(block)), HalfAt(block + 2));
}

template <>
__device__ float ElementOf<DType::kQ5_0>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 32 * 22;
  const int at = i % 32, fifth = block[2 + at / 8] >> at % 8 & 1;
  return __fmul_rn(static_cast<float>((NibbleOf(block + 6, at) | fifth << 4) - 16), HalfAt(block));
}

template <>
__device__ float ElementOf<DType::kQ5_1>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 32 * 24;
  const int at = i % 32, fifth = block[4 + at / 8] >> at % 8 & 1;
  const float quant = static_cast<float>(NibbleOf(block + 8, at) | fifth << 4);
  return __fadd_rn(__fmul_rn(quant, HalfAt(block)), HalfAt(block + 2));
}

template <>
__device__ float ElementOf<DType::kIQ4_NL>(const uint8_t* source, int64_t i) {
  constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const uint8_t* block = source + i / 32 * 18;
  return __fmul_rn(static_cast<float>(kValues[NibbleOf(block + 2, i % 32)]), HalfAt(block));
}

template <>
__device__ float ElementOf<DType::kQ8_0>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 32 * 34;
  return __fmul_rn(static_cast<float>(static_cast<int8_t>(block[2 + i % 32])), HalfAt(block));
}

// A quant of sub-block `sub` of Q4_K or Q5_K, whose block begins alike.
__device__ float SubBlockValue(const uint8_t* block, int sub, int quant) {
  const uint8_t* packed = block + 4;
  const int scale = sub < 4 ? packed[sub] & 63 : (packed[sub + 4] & 15) | packed[sub - 4] >> 6 << 4;
  const int minimum = sub < 4 ? packed[sub + 4] & 63 : packed[sub + 4] >> 4 | packed[sub] >> 6 << 4;
  return __fadd_rn(__fmul_rn(static_cast<float>(quant), __fmul_rn(HalfAt(block), static_cast<float>(scale))),
                   -__fmul_rn(HalfAt(block + 2), static_cast<float>(minimum)));
}

template <>
__device__ float ElementOf<DType::kQ4_K>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 256 * 144;
  const int at = i % 256, sub = at / 32, byte = block[16 + at / 64 * 32 + at % 32];
  return SubBlockValue(block, sub, sub % 2 == 0 ? byte & 15 : byte >> 4);
}

template <>
__device__ float ElementOf<DType::kQ5_K>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 256 * 176;
  const int at = i % 256, sub = at / 32, byte = block[48 + at / 64 * 32 + at % 32];
  const int fifth = block[16 + at % 32] >> sub & 1;
  return SubBlockValue(block, sub, (sub % 2 == 0 ? byte & 15 : byte >> 4) | fifth << 4);
}

template <>
__device__ float ElementOf<DType::kQ2_K>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 256 * 84;
  const int at = i % 256, part = at / 32, sub = block[at / 16];
  const int quant = block[16 + part / 4 * 32 + at % 32] >> part % 4 * 2 & 3;
  return __fadd_rn(__fmul_rn(static_cast<float>(quant), __fmul_rn(HalfAt(block + 80), static_cast<float>(sub & 15))),
                   -__fmul_rn(HalfAt(block + 82), static_cast<float>(sub >> 4)));
}

template <>
__device__ float ElementOf<DType::kQ3_K>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 256 * 110;
  const uint8_t* packed = block + 96;
  const int at = i % 256, part = at / 32, sub = at / 16;
  const int low = block[32 + part / 4 * 32 + at % 32] >> part % 4 * 2 & 3, third = block[at % 32] >> part & 1;
  const int scale = (sub < 8 ? packed[sub] & 15 : packed[sub - 8] >> 4) | (packed[8 + sub % 4] >> sub / 4 * 2 & 3) << 4;
  return __fmul_rn(static_cast<float>((low | third << 2) - 4), __fmul_rn(HalfAt(block + 108), static_cast<float>(scale - 32)));
}

template <>
__device__ float ElementOf<DType::kQ6_K>(const uint8_t* source, int64_t i) {
  const uint8_t* block = source + i / 256 * 210;
  const int at = i % 256, half = at / 128, part = at % 128 / 32, in_part = at % 32;
  const int byte = block[64 * half + 32 * (part % 2) + in_part];
  const int low = part < 2 ? byte & 15 : byte >> 4, high = block[128 + 32 * half + in_part] >> 2 * part & 3;
  const float scale = static_cast<float>(static_cast<int8_t>(block[192 + at / 16]));
  return __fmul_rn(static_cast<float>((low | high << 4) - 32), __fmul_rn(HalfAt(block + 208), scale));
}

template <DType from, typename T>
__global__ void Convert(const uint8_t* source, int64_t elements, T* out) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i < elements) out[i] = FromFloat<T>(ElementOf<from>(source, i));
}

template <typename T>
__global__ void FillRandom(uint64_t seed, float unit, int64_t elements, T* out) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i < elements) out[i] = FromFloat<T>(RandomWeight(seed, i, unit));
}

unsigned Blocks(int64_t elements) { return static_cast<unsigned>((elements + kThreads - 1) / kThreads); }

// Calls `body` with a constant of the dtype, to be read as decltype(constant)::value.
template <typename Body>
void WithWeightType(DType dtype, Body body) {
  switch (dtype) {
    case DType::kF32:
      return body(std::integral_constant<DType, DType::kF32>{});
    case DType::kF16:
      return body(std::integral_constant<DType, DType::kF16>{});
    case DType::kBF16:
      return body(std::integral_constant<DType, DType::kBF16>{});
    case DType::kQ4_0:
      return body(std::integral_constant<DType, DType::kQ4_0>{});
    case DType::kQ4_1:
      return body(std::integral_constant<DType, DType::kQ4_1>{});
    case DType::kQ5_0:
      return body(std::integral_constant<DType, DType::kQ5_0>{});
    case DType::kQ8_0:
      return body(std::integral_constant<DType, DType::kQ8_0>{});
    case DType::kQ4_K:
      return body(std::integral_constant<DType, DType::kQ4_K>{});
    case DType::kQ6_K:
      return body(std::integral_constant<DType, DType::kQ6_K>{});
    case DType::kQ5_1:
      return body(std::integral_constant<DType, DType::kQ5_1>{});
    case DType::kQ2_K:
      return body(std::integral_constant<DType, DType::kQ2_K>{});
    case DType::kQ3_K:
      return body(std::integral_constant<DType, DType::kQ3_K>{});
    case DType::kQ5_K:
      return body(std::integral_constant<DType, DType::kQ5_K>{});
    case DType::kIQ4_NL:
      return body(std::integral_constant<DType, DType::kIQ4_NL>{});
    default:
      BERTH_CHECK(false) << "weights are never " << Info(dtype).name;
  }
}

}  // namespace

void ConvertWeights(DType from, const std::byte* source, int64_t elements, DType to, std::byte* out, cudaStream_t stream) {
  if (elements == 0) return;
  WithActivation(to, [&](auto type) {
    using T = decltype(type);
    WithWeightType(from, [&](auto constant) {
      Convert<decltype(constant)::value, T><<<Blocks(elements), kThreads, 0, stream>>>(reinterpret_cast<const uint8_t*>(source),
                                                                                       elements, reinterpret_cast<T*>(out));
    });
  });
}

void FillRandomWeights(uint64_t seed, float scale, int64_t elements, DType to, std::byte* out, cudaStream_t stream) {
  if (elements == 0) return;
  WithActivation(to, [&](auto type) {
    using T = decltype(type);
    FillRandom<<<Blocks(elements), kThreads, 0, stream>>>(seed, RandomWeightUnit(scale), elements, reinterpret_cast<T*>(out));
  });
}

}  // namespace berth::kernels::cuda
