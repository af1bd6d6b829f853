#include "kernels/cuda/gated/gated.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/util/activate.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Grid: (chunks of a row, rows).
template <typename T, int kWidth>
__global__ void ActivateRows(Activation activation, bool gated, const T* product, const float* bias, int64_t inter, T* out,
                             int64_t out_stride) {
  LetSuccessorStart();
  WaitForInputs();
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth, row = blockIdx.y;
  if (i >= inter) return;
  const T* from = product + row * (gated ? 2 * inter : inter) + i;
  float x[kWidth], up[kWidth];
  Load<kWidth>(from, x);
  if (gated) Load<kWidth>(from + inter, up);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    x[e] = Activate(activation, bias == nullptr ? x[e] : x[e] + bias[i + e]);
    if (gated) x[e] *= bias == nullptr ? up[e] : up[e] + bias[inter + i + e];
  }
  Store<kWidth>(x, out + row * out_stride + i);
}

// Multiplies each row of out by sigmoid(normed row · gate). Grid: rows.
template <typename T>
__global__ void GateRows(const T* normed, const T* gate, int64_t hidden, int64_t inter, T* out, int64_t out_stride) {
  __shared__ float shared[kThreads / 32];
  LetSuccessorStart();
  WaitForInputs();
  float sum = 0;
  for (int64_t i = threadIdx.x; i < hidden; i += kThreads) sum += ToFloat(normed[blockIdx.x * hidden + i]) * ToFloat(gate[i]);
  const float open = 1 / (1 + __expf(-BlockSum(sum, shared)));
  T* const row = out + blockIdx.x * out_stride;
  for (int64_t i = threadIdx.x; i < inter; i += kThreads) row[i] = FromFloat<T>(ToFloat(row[i]) * open);
}

}  // namespace

void MlpUp(Context& context, const MlpUpArgs& args) {
  const bool whole = args.row_gate.empty() && !TakesAdapter(context, args.adapter);  // one kernel may do it all
  const int64_t rows = args.out.dim(0), inter = args.out.dim(1);
  const DType dtype = args.residual.dtype();
  if (whole && (rows <= kFewTokens ? StreamMlpUp(context, args) || GatedMlpUp(context, args)
                                   : GatedMlpUp(context, args) || StreamMlpUp(context, args))) {
    return;
  }
  const Tensor normed(context.normed.data(), dtype, {rows, args.weight.k});
  const Tensor product(context.product.data(), dtype, {rows, args.weight.n()});
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  Linear(context, normed, args.weight, 0, product);
  AddAdapter(context, args.adapter, normed, product);
  const int width = TakesVectors(args.out.raw(), args.out.stride(0)) && inter % 8 == 0 ? 8 : 1;
  const dim3 grid((inter + kThreads * width - 1) / (kThreads * width), rows);
  WithActivation(dtype, [&](auto type) {
    using T = decltype(type);
    Launch(context, width == 8 ? ActivateRows<T, 8> : ActivateRows<T, 1>, grid, kThreads, 0, args.activation, args.gated,
           static_cast<const T*>(product.raw()), static_cast<const float*>(args.bias.raw()), inter,
           static_cast<T*>(args.out.raw()), args.out.stride(0));
    if (args.row_gate.empty()) return;
    Launch(context, GateRows<T>, rows, kThreads, 0, static_cast<const T*>(normed.raw()),
           reinterpret_cast<const T*>(args.row_gate.segments.front().data), args.weight.k, inter,
           static_cast<T*>(args.out.raw()), args.out.stride(0));
  });
}

}  // namespace berth::kernels::cuda
