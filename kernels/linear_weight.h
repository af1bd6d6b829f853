#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "kernels/dtype.h"

namespace berth::kernels {

// The one resident copy of a matrix [N, K]: rows are outputs, K is contiguous inside a row. The rows come in segments, each
// with its own dtype and memory, so that q, k and v of a checkpoint that stores them apart (and quantises them differently)
// form one weight without a copy. A view: the loader owns the memory, which may be a mapped file.
struct LinearWeight {
  struct Segment {
    DType dtype = DType::kF32;
    int64_t rows = 0;
    const std::byte* data = nullptr;  // `rows` consecutive rows of RowBytes(dtype, k) bytes
  };

  int64_t k = 0;
  absl::InlinedVector<Segment, 3> segments;

  bool empty() const { return segments.empty(); }
  int64_t n() const {
    int64_t rows = 0;
    for (const Segment& segment : segments) rows += segment.rows;
    return rows;
  }
  // Rows [begin, begin + count).
  LinearWeight Rows(int64_t begin, int64_t count) const;
};

}  // namespace berth::kernels
