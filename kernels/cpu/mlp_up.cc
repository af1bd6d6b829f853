#include <cmath>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stages.h"
#include "kernels/cpu/vector_math.h"

namespace berth::kernels::cpu {

void MlpUp(Context& context, const MlpUpArgs& args) {
  const int64_t rows = args.out.dim(0), inter = args.out.dim(1), n = args.weight.n();
  const Tensor normed = NormRows(context, args.norm, args.residual);
  const Tensor product(context.product.Get(rows * n), DType::kF32, {rows, n});
  Linear(context, normed, args.weight, args.bias, product);
  AddAdapter(context, args.adapter, normed, product);
  const Tensor gate_logit(context.row.Get(rows), DType::kF32, {rows, 1});
  if (!args.row_gate.empty()) Linear(context, normed, args.row_gate, Tensor(), gate_logit);
  ForRows(context, rows, [&](int64_t r, int) {
    const float* gate = product.data<float>() + r * n;
    float* out = args.out.data<float>() + r * args.out.stride(0);
    Activate(args.activation, gate, args.gated ? gate + inter : nullptr, out, inter);
    if (args.row_gate.empty()) return;
    const float open = 1 / (1 + std::exp(-gate_logit.data<float>()[r]));
    for (int64_t i = 0; i < inter; ++i) out[i] *= open;
  });
}

}  // namespace berth::kernels::cpu
