#include "kernels/cuda/gated/gated.h"
#include "kernels/cuda/gated/gated_launch.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/tensor_map.h"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda {
namespace {

// Whether `weight` is one matrix that is multiplied with rows of `normed` as they are.
bool TakesWeight(const Context& context, const LinearWeight& weight, const Tensor& normed) {
  if (!context.hopper || weight.segments.size() != 1) return false;
  const LinearWeight::Segment& segment = weight.segments[0];
  return segment.dtype == normed.dtype() && TakesVectors(segment.data, weight.k) &&
         TakesVectors(normed.raw(), normed.stride(0));
}

// What the product of `normed` and a weight of 2 * inter rows walks through. False: the driver refuses a map.
bool SetWalk(const Context& context, const Tensor& normed, const LinearWeight& weight, const gated::GatedPlan& plan,
             gated::GatedParams& params) {
  const int64_t tokens = normed.dim(0), k = weight.k;
  const bool shares_tokens = plan.shared == gated::Shared::kTokens, smaller = plan.smaller_units > 0;
  const int64_t tile = plan.groups * gated::kGroupTokens, last_tile = smaller ? tile - gated::kGroupTokens : tile;
  const int64_t tail = gated::CopiedRows(tokens % last_tile, last_tile);  // smaller ones begin at multiples of it
  const int64_t copies = shares_tokens ? gated::kPair : 1;                // of a tile
  params.steps = static_cast<int>((k + gated::kStep - 1) / gated::kStep);
  params.token_units = static_cast<int>(plan.token_units);
  params.width_units = static_cast<int>(plan.width_units);
  params.token_count = tokens;
  params.inter = weight.n() / 2;
  params.units = params.token_units * params.width_units;
  params.smaller_units = static_cast<int>(plan.smaller_units);
  params.once = params.token_units == 1;
  const auto map = [&](const void* data, int64_t rows, int64_t stride, int64_t box, CUtensorMap& to) {
    const MapDimension dimensions[] = {{k, 0, gated::kStep}, {rows, stride * 2, box}};
    return MapTensor(context, CU_TENSOR_MAP_DATA_TYPE_UINT16, CU_TENSOR_MAP_SWIZZLE_128B, static_cast<const std::byte*>(data),
                     dimensions, to);
  };
  return map(normed.raw(), tokens, normed.stride(0), tile / copies, params.tokens) &&
         (!smaller || map(normed.raw(), tokens, normed.stride(0), last_tile, params.smaller)) &&
         (tail == 0 || map(normed.raw(), tokens, normed.stride(0), tail / copies, params.tail)) &&
         map(weight.segments[0].data, weight.n(), k, plan.width / 2, params.weight);
}

}  // namespace

bool GatedMlpUp(Context& context, const MlpUpArgs& args) {
  const Tensor normed(context.normed.data(), args.residual.dtype(), {args.out.dim(0), args.weight.k});
  if (!args.gated || args.activation != Activation::kSilu || args.out.dim(1) % 8 != 0 ||
      !TakesVectors(args.out.raw(), args.out.stride(0)) || !TakesWeight(context, args.weight, normed)) {
    return false;
  }
  const gated::GatedPlan plan =
      gated::PlanGated(args.out.dim(0), args.out.dim(1), context.multiprocessors, context.stream_tuning.gated_width);
  gated::GatedParams params{
      .bias = static_cast<const float*>(args.bias.raw()), .out = args.out.raw(), .out_stride = args.out.stride(0)};
  if (!SetWalk(context, normed, args.weight, plan, params)) return false;
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  WithActivation(normed.dtype(), [&](auto type) { gated::LaunchGated<decltype(type)>(context, params, plan); });
  return true;
}

bool BestOfHead(Context& context, const HeadArgs& args) {
  const int64_t rows = args.row.dim(0), vocab = args.weight.n();
  const Tensor normed(context.normed.data(), args.residual.dtype(), {rows, args.weight.k});
  if (args.best_of == 0 || context.batch_invariant || rows <= gated::kGroupTokens || vocab % 2 != 0 || !args.bias.empty() ||
      args.scale <= 0 || args.softcap != 0 || !TakesWeight(context, args.weight, normed)) {
    return false;
  }
  const gated::GatedPlan plan = gated::PlanGated(rows, vocab / 2, context.multiprocessors, gated::kMaxWidth);
  gated::GatedParams params{.best = static_cast<uint64_t*>(context.best.data()), .ids = args.best_of};
  if (!SetWalk(context, normed, args.weight, plan, params)) return false;
  NormRows(context, args.norm, args.residual, args.row, normed);
  WithActivation(normed.dtype(), [&](auto type) { gated::LaunchBest<decltype(type)>(context, params, plan); });
  context.best_found = true;
  return true;
}

}  // namespace berth::kernels::cuda
