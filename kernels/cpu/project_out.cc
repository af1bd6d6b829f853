#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels::cpu {

void ProjectOut(Context& context, const ProjectOutArgs& args) {
  const int64_t rows = args.residual.dim(0), hidden = args.residual.dim(1);
  const Tensor branch(context.product.Get(rows * hidden), DType::kF32, {rows, hidden});
  Linear(context, args.in, args.weight, args.bias, branch);
  AddAdapter(context, args.adapter, args.in, branch);
  ForRows(context, rows, [&](int64_t r, int) {
    float* from = branch.data<float>() + r * hidden;
    float* to = args.residual.data<float>() + r * args.residual.stride(0);
    NormRow(args.post_norm, from, from, hidden);
    for (int64_t i = 0; i < hidden; ++i) to[i] += from[i] * args.scale;
  });
}

}  // namespace berth::kernels::cpu
