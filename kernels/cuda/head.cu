#include "kernels/cuda/gated/gated.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda {
namespace {

__global__ void FinishLogits(float* logits, int64_t stride, int64_t vocab, const float* bias, float scale, float softcap) {
  LetSuccessorStart();
  WaitForInputs();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= vocab) return;
  float& logit = logits[blockIdx.y * stride + i];
  float x = (bias == nullptr ? logit : logit + bias[i]) * scale;
  if (softcap > 0) x = softcap * tanhf(x / softcap);
  logit = x;
}

}  // namespace

void Head(Context& context, const HeadArgs& args) {
  if (StreamHead(context, args) || BestOfHead(context, args)) return;
  const int64_t rows = args.row.dim(0), vocab = args.weight.n();
  const Tensor normed(context.normed.data(), args.residual.dtype(), {rows, args.weight.k});
  NormRows(context, args.norm, args.residual, args.row, normed);
  Linear(context, normed, args.weight, 0, args.logits);
  if (args.bias.empty() && args.scale == 1 && args.softcap == 0) return;
  Launch(context, FinishLogits, dim3((vocab + 255) / 256, rows), 256, 0, args.logits.data<float>(), args.logits.stride(0),
         vocab, static_cast<const float*>(args.bias.raw()), args.scale, args.softcap);
}

}  // namespace berth::kernels::cuda
