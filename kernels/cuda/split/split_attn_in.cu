#include "kernels/cuda/split/split.h"
#include "kernels/cuda/split/split_launch.cuh"
#include "kernels/cuda/stages.h"

namespace berth::kernels::cuda {
namespace {

constexpr int kRanks = 2, kNarrow = 64, kWide = 128, kWideColumns = 2;

bool Takes(const Context& context, const AttnInArgs& args, const Tensor& normed, int width) {
  const Tensor& frequency = args.rope.inverse_frequency;
  return split::Takes(context, normed, args.qkv, kRanks, split::MostTokens(width)) && args.q_norm.weight.empty() &&
         args.k_norm.weight.empty() && args.log_length == 0 && !frequency.empty() && frequency.dim(1) * 2 == args.head_dim &&
         TakesVectors(args.bias.raw(), 0) && TakesVectors(args.q.raw(), args.q.stride(0)) && args.q.stride(1) % 8 == 0 &&
         TakesVectors(args.kv.base, 0) && args.kv.block_stride % 16 == 0 && args.kv.head_stride % 16 == 0;
}

}  // namespace

bool SplitAttnIn(Context& context, const AttnInArgs& args) {
  const Tensor normed(context.normed.data(), args.residual.dtype(), {args.batch.tokens, args.qkv.k});
  const auto fits = [&](int width, int columns) {
    return args.head_dim % width == 0 && args.qkv.n() <= width * split::TilesAtOnce(context, kRanks, columns);
  };
  const bool narrow = fits(kNarrow, 1);
  if (!narrow && !fits(kWide, kWideColumns)) return false;
  if (!Takes(context, args, normed, narrow ? kNarrow : kWide)) return false;
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  bool taken = false;
  WithActivation(normed.dtype(), [&](auto type) {
    using T = decltype(type);
    const split::AttnInEpilogue<T> epilogue{AttnFinish::Of(args)};
    taken = narrow ? split::Launch<T, kNarrow, kRanks, 1>(context, normed, args.qkv, epilogue)
                   : split::Launch<T, kWide, kRanks, kWideColumns>(context, normed, args.qkv, epilogue);
  });
  return taken;
}

}  // namespace berth::kernels::cuda
