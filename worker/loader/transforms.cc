#include "worker/loader/transforms.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/dequantize.h"

namespace berth::loader {
namespace {

using model::Transform;

int64_t InterleavedRopeRow(const HeadLayout& heads, int64_t row) {
  const int64_t half = heads.rotary_dim / 2;
  const int64_t at = row % heads.head_dim - heads.rotary_begin;
  if (at < 0 || at >= heads.rotary_dim || row >= (heads.q_heads + heads.kv_heads) * heads.head_dim) return row;
  return row - at + 2 * (at % half) + at / half;
}

int64_t GroupedQkvRow(const HeadLayout& heads, int64_t row) {
  const int64_t per_group = heads.q_heads / heads.kv_heads;
  const int64_t in_head = row % heads.head_dim;
  const int64_t head = row / heads.head_dim;  // q heads, then k heads, then v heads
  int64_t group, place;
  if (head < heads.q_heads) {
    group = head / per_group;
    place = head % per_group;
  } else {
    group = (head - heads.q_heads) % heads.kv_heads;
    place = per_group + (head - heads.q_heads) / heads.kv_heads;
  }
  return (group * (per_group + 2) + place) * heads.head_dim + in_head;
}

size_t StoredRowBytes(const TensorInfo& tensor) {
  return tensor.shape.size() == 2 ? kernels::RowBytes(tensor.dtype, tensor.columns()) : kernels::RowBytes(tensor.dtype, 1);
}

// Quantised blocks hold 16-bit scales.
size_t ElementAlignment(kernels::DType dtype) {
  return kernels::IsQuantized(dtype) ? 2 : static_cast<size_t>(kernels::Info(dtype).block_bytes);
}

// One row of the transposed part that it belongs to, read down a column.
void CopyColumn(const TensorInfo& tensor, const RowSelection& selection, int64_t row, std::byte* out) {
  const size_t element = kernels::RowBytes(tensor.dtype, 1), stored = StoredRowBytes(tensor);
  const int64_t part_rows = tensor.columns(), part_columns = tensor.rows() / selection.parts;
  const std::byte* from = tensor.data.data() + row / part_rows * part_columns * stored + row % part_rows * element;
  for (int64_t i = 0; i < selection.columns; ++i) {
    std::memcpy(out + i * element, from + (selection.column_begin + i) * stored, element);
  }
}

void NormalizeRow(kernels::DType dtype, int64_t size, std::byte* row) {
  std::vector<float> values(size);
  kernels::DequantizeRow(dtype, row, values.data(), size);
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  const float length = std::max(static_cast<float>(std::sqrt(squares)), 1e-12f);
  for (float& value : values) value /= length;
  kernels::StoreRow(values.data(), size, dtype, row);
}

void SubtractOne(kernels::DType dtype, int64_t size, std::byte* row) {
  std::vector<float> values(size);
  kernels::DequantizeRow(dtype, row, values.data(), size);
  for (float& value : values) value -= 1;
  kernels::StoreRow(values.data(), size, dtype, row);
}

size_t ColumnOffset(const TensorInfo& tensor, const RowSelection& selection) {
  return selection.columns == 0 ? 0 : kernels::RowBytes(tensor.dtype, selection.column_begin);
}

}  // namespace

bool IsRowOrder(Transform transform) {
  return transform != Transform::kNormalizedRows && transform != Transform::kTransposedParts &&
         transform != Transform::kMinusOne;
}

int64_t SourceRow(Transform transform, const HeadLayout& heads, int64_t row) {
  switch (transform) {
    case Transform::kInterleavedRope:
      return InterleavedRopeRow(heads, row);
    case Transform::kGroupedQkv:
      return GroupedQkvRow(heads, row);
    default:
      return row;
  }
}

size_t SelectedRowBytes(const TensorInfo& tensor, const RowSelection& selection) {
  return kernels::RowBytes(tensor.dtype, std::max<int64_t>(selection.columns, 1));
}

const std::byte* SelectedInPlace(const TensorInfo& tensor, const RowSelection& selection) {
  const size_t stored = StoredRowBytes(tensor);
  if (selection.transform != Transform::kCopy || selection.ranges.size() != 1) return nullptr;
  if (SelectedRowBytes(tensor, selection) != stored) return nullptr;
  const std::byte* data = tensor.data.data() + selection.ranges[0].begin * stored;
  return reinterpret_cast<uintptr_t>(data) % ElementAlignment(tensor.dtype) == 0 ? data : nullptr;
}

void CopySelected(const TensorInfo& tensor, const RowSelection& selection, std::byte* out) {
  const size_t stored = StoredRowBytes(tensor);
  const size_t selected = SelectedRowBytes(tensor, selection);
  const size_t column_offset = ColumnOffset(tensor, selection);
  for (const RowRange& range : selection.ranges) {
    for (int64_t row = range.begin; row < range.begin + range.count; ++row) {
      if (selection.transform == Transform::kTransposedParts) {
        CopyColumn(tensor, selection, row, out);
      } else {
        const int64_t source = SourceRow(selection.transform, selection.heads, row);
        std::memcpy(out, tensor.data.data() + source * stored + column_offset, selected);
      }
      if (selection.transform == Transform::kMinusOne) SubtractOne(tensor.dtype, std::max<int64_t>(selection.columns, 1), out);
      if (selection.transform == Transform::kNormalizedRows) NormalizeRow(tensor.dtype, selection.columns, out);
      out += selected;
    }
  }
}

}  // namespace berth::loader
