#include "kernels/linear_weight.h"

#include <algorithm>

#include "base/check.h"

namespace berth::kernels {

LinearWeight LinearWeight::Rows(int64_t begin, int64_t count) const {
  BERTH_CHECK(begin >= 0 && count >= 0 && begin + count <= n()) << begin << " + " << count << " of " << n() << " rows";
  LinearWeight out{.k = k};
  int64_t first = 0;
  for (const Segment& segment : segments) {
    const int64_t from = std::max(begin, first), to = std::min(begin + count, first + segment.rows);
    if (from < to) {
      out.segments.push_back(
          {.dtype = segment.dtype, .rows = to - from, .data = segment.data + (from - first) * RowBytes(segment.dtype, k)});
    }
    first += segment.rows;
  }
  return out;
}

}  // namespace berth::kernels
