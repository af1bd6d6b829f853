#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace berth::kernels::cpu {

// What the ops that write the cache do to one row of a step.

// Cosines of the row's rotary angles, then sines, into `angles`, and how many of each there are. `dim` floats are enough room
// for a rotation of up to `dim` dimensions.
int64_t RopeAngles(const Rope& rope, const Batch& batch, int64_t row, float* angles);

// Rotates dimension i with i + pairs.
void Rotate(float* head, int64_t pairs, const float* angles);

// Where the row's keys and values go: the block, and the token in it.
struct KvPlace {
  int64_t block = 0;
  int64_t token = 0;
};
KvPlace PlaceOf(const Batch& batch, int64_t row);

// Elements in the cache's type: f32, f16 or bf16.
void StoreKv(const float* from, DType dtype, int64_t count, std::byte* to);

}  // namespace berth::kernels::cpu
