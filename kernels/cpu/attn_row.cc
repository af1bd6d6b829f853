#include "kernels/cpu/attn_row.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/cpu/half.h"

namespace berth::kernels::cpu {

int64_t RopeAngles(const Rope& rope, const Batch& batch, int64_t row, float* angles) {
  const Tensor& frequency = rope.inverse_frequency;
  if (frequency.empty()) return 0;
  const int64_t pairs = frequency.dim(1);
  const int32_t sequence = batch.sequence_of.data<int32_t>()[row];
  const int32_t variant = batch.rope_variant.empty() ? 0 : batch.rope_variant.data<int32_t>()[sequence];
  BERTH_CHECK(variant >= 0 && variant < frequency.dim(0)) << "rope variant " << variant << " of " << frequency.DebugString();
  const float* inverse_frequency = frequency.data<float>() + variant * frequency.stride(0);
  const auto position = static_cast<float>(batch.position.data<int32_t>()[row]);
  for (int64_t i = 0; i < pairs; ++i) {
    const float angle = position * inverse_frequency[i];
    angles[i] = std::cos(angle) * rope.attention_scale;
    angles[pairs + i] = std::sin(angle) * rope.attention_scale;
  }
  return pairs;
}

void Rotate(float* head, int64_t pairs, const float* angles) {
  const float *cosine = angles, *sine = angles + pairs;
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = head[i], b = head[i + pairs];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + pairs] = b * cosine[i] + a * sine[i];
  }
}

KvPlace PlaceOf(const Batch& batch, int64_t row) {
  const int32_t position = batch.position.data<int32_t>()[row], sequence = batch.sequence_of.data<int32_t>()[row];
  const Tensor& table = batch.block_table;
  BERTH_CHECK(position >= 0 && position / kKvBlockTokens < table.dim(1))
      << "position " << position << ", " << table.DebugString();
  return {table.data<int32_t>()[sequence * table.stride(0) + position / kKvBlockTokens], position % kKvBlockTokens};
}

void StoreKv(const float* from, DType dtype, int64_t count, std::byte* to) {
  if (dtype == DType::kF32) {
    std::copy(from, from + count, reinterpret_cast<float*>(to));
  } else {
    std::transform(from, from + count, reinterpret_cast<uint16_t*>(to), dtype == DType::kF16 ? ToHalf : ToBf16);
  }
}

}  // namespace berth::kernels::cpu
