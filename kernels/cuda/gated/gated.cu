#include "kernels/cuda/gated/gated.h"
#include "kernels/cuda/gated/gated_launch.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/tensor_map.h"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda {
namespace {

bool Takes(const Context& context, const MlpUpArgs& args, const Tensor& normed) {
  if (!context.hopper || !args.gated || args.activation != Activation::kSilu || args.weight.segments.size() != 1) return false;
  const LinearWeight::Segment& segment = args.weight.segments[0];
  return segment.dtype == normed.dtype() && args.out.dim(1) % 8 == 0 && TakesVectors(segment.data, args.weight.k) &&
         TakesVectors(normed.raw(), normed.stride(0)) && TakesVectors(args.out.raw(), args.out.stride(0));
}

}  // namespace

bool GatedMlpUp(Context& context, const MlpUpArgs& args) {
  const Tensor normed(context.normed.data(), args.residual.dtype(), {args.out.dim(0), args.weight.k});
  if (!Takes(context, args, normed)) return false;
  const int64_t tokens = args.out.dim(0), inter = args.out.dim(1), k = args.weight.k;
  const gated::GatedPlan plan = gated::PlanGated(tokens, inter, context.multiprocessors, context.stream_tuning.gated_width);
  const bool shares_tokens = plan.shared == gated::Shared::kTokens;
  const int64_t tile = plan.groups * gated::kGroupTokens, tail = gated::CopiedRows(tokens % tile, tile);
  const int64_t copies = shares_tokens ? gated::kPair : 1;  // of a tile
  gated::GatedParams params{.steps = static_cast<int>((k + gated::kStep - 1) / gated::kStep),
                            .token_units = static_cast<int>(plan.token_units),
                            .width_units = static_cast<int>(plan.width_units),
                            .token_count = tokens,
                            .inter = inter,
                            .bias = static_cast<const float*>(args.bias.raw()),
                            .out = args.out.raw(),
                            .out_stride = args.out.stride(0)};
  params.units = params.token_units * params.width_units;
  params.once = params.token_units == 1;
  const auto map = [&](const void* data, int64_t rows, int64_t stride, int64_t box, CUtensorMap& to) {
    const MapDimension dimensions[] = {{k, 0, gated::kStep}, {rows, stride * 2, box}};
    return MapTensor(context, CU_TENSOR_MAP_DATA_TYPE_UINT16, CU_TENSOR_MAP_SWIZZLE_128B, static_cast<const std::byte*>(data),
                     dimensions, to);
  };
  if (!map(normed.raw(), tokens, normed.stride(0), tile / copies, params.tokens) ||
      (tail > 0 && !map(normed.raw(), tokens, normed.stride(0), tail / copies, params.tail)) ||
      !map(args.weight.segments[0].data, 2 * inter, k, plan.width / 2, params.weight)) {
    return false;
  }
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  WithActivation(normed.dtype(), [&](auto type) { gated::LaunchGated<decltype(type)>(context, params, plan); });
  return true;
}

}  // namespace berth::kernels::cuda
