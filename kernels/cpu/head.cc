#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stages.h"
#include "kernels/cpu/vector_math.h"

namespace berth::kernels::cpu {

void Head(Context& context, const HeadArgs& args) {
  const int64_t rows = args.row.dim(0), hidden = args.weight.k, vocab = args.weight.n();
  const Tensor normed(context.normed.Get(rows * hidden), DType::kF32, {rows, hidden});
  ForRows(context, rows, [&](int64_t r, int) {
    const int32_t row = args.row.data<int32_t>()[r * args.row.stride(0)];
    BERTH_CHECK(row >= 0 && row < args.residual.dim(0)) << "row " << row << " of " << args.residual.DebugString();
    NormRow(args.norm, args.residual.data<float>() + row * args.residual.stride(0), normed.data<float>() + r * hidden, hidden);
  });
  Linear(context, normed, args.weight, args.bias, args.logits);
  if (args.scale == 1 && args.softcap == 0) return;
  ForRows(context, rows, [&](int64_t r, int) {
    float* logits = args.logits.data<float>() + r * args.logits.stride(0);
    for (int64_t i = 0; i < vocab; ++i) logits[i] *= args.scale;
    if (args.softcap > 0) SoftCap(logits, args.softcap, logits, vocab);
  });
}

}  // namespace berth::kernels::cpu
