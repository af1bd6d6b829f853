#pragma once

#include <cstdint>

#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda {

// Neighbouring elements that are loaded and stored at once, from an address that is a multiple of their size.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  T value[kWidth];
};

template <int kWidth, typename T>
__device__ void Load(const T* from, float (&x)[kWidth]) {
  const auto vector = *reinterpret_cast<const Vector<T, kWidth>*>(from);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) x[i] = ToFloat(vector.value[i]);
}
// f32 comes 16 bytes at a time.
template <>
__device__ inline void Load<8, float>(const float* from, float (&x)[8]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

template <int kWidth, typename T>
__device__ void Store(const float (&x)[kWidth], T* to) {
  Vector<T, kWidth> vector;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) vector.value[i] = FromFloat<T>(x[i]);
  *reinterpret_cast<Vector<T, kWidth>*>(to) = vector;
}

// Whether `pointer` and steps of `stride` activations allow vectors of eight.
inline bool TakesVectors(const void* pointer, int64_t stride) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride % 8 == 0;
}

__device__ inline float WarpSum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

}  // namespace berth::kernels::cuda
