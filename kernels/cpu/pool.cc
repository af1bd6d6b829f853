#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels::cpu {

void Pool(Context& context, const PoolArgs& args) {
  const Tensor normed = NormRows(context, args.norm, args.residual);
  const int64_t hidden = args.sum.dim(1);
  ForRows(context, args.slot.dim(0), [&](int64_t chunk, int) {
    const int32_t slot = args.slot.data<int32_t>()[chunk];
    const int32_t begin = args.begin.data<int32_t>()[chunk], end = args.end.data<int32_t>()[chunk];
    BERTH_CHECK(slot >= 0 && slot < args.sum.dim(0)) << "slot " << slot << " of " << args.sum.DebugString();
    BERTH_CHECK(begin >= 0 && end <= normed.dim(0)) << "rows " << begin << " … " << end << " of " << normed.DebugString();
    float* const sum = args.sum.data<float>() + slot * args.sum.stride(0);
    if (args.fresh.data<int32_t>()[chunk] != 0) std::fill_n(sum, hidden, 0.f);
    for (int32_t row = begin; row < end; ++row) {
      const float* const x = normed.data<float>() + row * normed.stride(0);
      for (int64_t i = 0; i < hidden; ++i) sum[i] += x[i];
    }
  });
}

}  // namespace berth::kernels::cpu
