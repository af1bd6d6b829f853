#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "worker/loader/checkpoint.h"
#include "worker/model/weight_rules.h"

namespace berth::loader {

// What the row orders depend on.
struct HeadLayout {
  int64_t q_heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;  // dimensions of a head from rotary_begin on
  int64_t rotary_begin = 0;
};

// Whether the transform moves whole rows and leaves them as they are.
bool IsRowOrder(model::Transform transform);

// The row of the checkpoint's tensor that becomes canonical row `row`; transforms that are no row orders leave it in place.
//   kCopy             row
//   kInterleavedRope  row h d + b + j r/2 + i of head h comes from row h d + b + 2 i + j (d = head_dim, r = rotary_dim, b =
//                     rotary_begin, j in {0, 1}, i < r/2); where `row` counts over q, k and v, rows of v stay
//   kGroupedQkv       with g = q_heads / kv_heads, the tensor is [kv_heads, g + 2, d] rows: g of q, then k, then v;
//                     `row` counts over all q rows, then all k, then all v
int64_t SourceRow(model::Transform transform, const HeadLayout& heads, int64_t row);

struct RowRange {
  int64_t begin = 0;
  int64_t count = 0;
};

// The part of a tensor that one rank takes: canonical rows, one range behind the other, and columns of each.
struct RowSelection {
  model::Transform transform = model::Transform::kCopy;
  HeadLayout heads;
  int64_t parts = 1;  // that lie in the tensor, for kTransposedParts
  absl::InlinedVector<RowRange, 3> ranges;
  int64_t column_begin = 0;
  int64_t columns = 0;  // 0: the tensor is a vector

  int64_t rows() const {
    int64_t total = 0;
    for (const RowRange& range : ranges) total += range.count;
    return total;
  }
};

// Bytes of one selected row; a vector's row is one element.
size_t SelectedRowBytes(const TensorInfo& tensor, const RowSelection& selection);

// The selected rows as they lie in the tensor; null when they are not in one piece, or lie where elements of their type may
// not.
const std::byte* SelectedInPlace(const TensorInfo& tensor, const RowSelection& selection);

// Writes the selected rows one behind the other: rows() * SelectedRowBytes() bytes. kMinusOne computes in f32 and rounds to the
// tensor's type. kNormalizedRows divides each row by
// max(‖row‖, 1e-12) in f32 and rounds to the tensor's type; with kTransposedParts, element c of canonical row p n + r is
// element r of the tensor's row p k + c (n rows and k columns of a canonical part).
void CopySelected(const TensorInfo& tensor, const RowSelection& selection, std::byte* out);

}  // namespace berth::loader
