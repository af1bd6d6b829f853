#pragma once

#include <algorithm>
#include <span>

#include "kernels/cuda/context.h"
#include "kernels/cuda/split/split_product_sm90.cuh"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/tensor_map.h"
#include "kernels/cuda/util/vector.cuh"
#include "kernels/ops.h"

namespace berth::kernels::cuda::split {

// How many tiles of rows are multiplied at the same time, an SM having one block. Some SMs are in no whole cluster of four or
// eight: an H200's 132 hold 66 of two, 30 of four, 15 of eight.
inline int64_t TilesAtOnce(const Context& context, int ranks, int columns, int parts = 1) {
  const int blocks = ranks * columns * parts, idle = blocks > 2 ? 12 : 0;
  return (context.multiprocessors - idle) / blocks * columns;
}

// Up to how many tokens a product is left to a chain. Where layers are small, a chain's waits cost more than they save with 8
// tokens; with one they do not, and steps of 5 to 7 are recorded as steps of 8.
inline int64_t ChainTokens(const Context& context, const LinearWeight& weight) {
  const int most = context.stream_tuning.chain_tokens;
  return SmallLayers(weight.n(), weight.k) ? std::min(most, 4) : most;
}

// Whether products of `in`, at most so many tokens, and `weight` may be cut along K into `ranks` parts.
inline bool Takes(const Context& context, const Tensor& in, const LinearWeight& weight, int ranks, int64_t most_tokens) {
  const int64_t tokens = in.dim(0);
  if (!context.hopper || context.batch_invariant || weight.segments.size() != 1) return false;
  if (tokens <= ChainTokens(context, weight) || tokens > most_tokens) return false;
  const LinearWeight::Segment& segment = weight.segments[0];
  return segment.dtype == in.dtype() && weight.k >= ranks * kStep && TakesVectors(segment.data, weight.k) &&
         TakesVectors(in.raw(), in.stride(0));
}

template <typename T, int kWidth, int kRanks, int kColumns, int kParts, int kSets, typename Epilogue>
bool LaunchSets(Context& context, const Tensor& in, const LinearWeight& weight, const Epilogue& epilogue) {
  const int64_t n = weight.n(), k = weight.k, row_bytes = k * 2;
  SplitParams params{.steps = static_cast<int>((k + kStep - 1) / kStep), .token_count = static_cast<int>(in.dim(0))};
  params.token_rows = params.token_count <= 8 ? 8 : (params.token_count + 16 * kParts - 1) / (16 * kParts) * 16;
  params.token_box = std::max(params.token_rows / kColumns, 8);
  const auto map = [&](const void* data, std::span<const MapDimension> dimensions, CUtensorMap& to) {
    return MapTensor(context, CU_TENSOR_MAP_DATA_TYPE_UINT16, CU_TENSOR_MAP_SWIZZLE_128B, static_cast<const std::byte*>(data),
                     dimensions, to);
  };
  const auto map_weight = [&](std::span<const MapDimension> dimensions) {
    return map(weight.segments[0].data, dimensions, params.weight);
  };
  const MapDimension inner{k, 0, kStep}, tokens[] = {inner, {in.dim(0), in.stride(0) * 2, params.token_box}};
  bool mapped = map(in.raw(), tokens, params.tokens);
  if constexpr (Epilogue::kPaired) {
    const int64_t half = epilogue.finish.head_dim / 2;
    const MapDimension rows[] = {inner,
                                 {8, row_bytes, 8},
                                 {2, half * row_bytes, 2},
                                 {half / 8, 8 * row_bytes, kWidth / 16},
                                 {n / (2 * half), 2 * half * row_bytes, 1}};
    mapped = mapped && map_weight(rows);
  } else {
    const MapDimension rows[] = {inner, {n, row_bytes, kWidth / kParts}};
    mapped = mapped && map_weight(rows);
  }
  if (!mapped) return false;
  constexpr int kExtra = kSets * Epilogue::SharedBytes(kWidth, kRanks), kBlocks = kRanks * kColumns * kParts;
  const auto clusters = static_cast<unsigned>((n + kWidth * kColumns - 1) / (kWidth * kColumns));
  LaunchClusters(context, SplitProduct<T, kWidth, kRanks, kColumns, kParts, kSets, Epilogue>, kBlocks, clusters * kBlocks,
                 Threads(kSets), Stages(kWidth, kSets, kExtra) * StageBytes(kWidth, kSets) + kBarrierBytes + kExtra, params,
                 epilogue);
  return true;
}

// Queues the product; false if the driver refuses a tensor map.
template <typename T, int kWidth, int kRanks, int kColumns, int kSets = 1, typename Epilogue>
bool Launch(Context& context, const Tensor& in, const LinearWeight& weight, const Epilogue& epilogue) {
  if constexpr (kSets < MostSets(kWidth)) {
    if (in.dim(0) > kSets * kSetTokens) return Launch<T, kWidth, kRanks, kColumns, kSets + 1>(context, in, weight, epilogue);
  }
  return LaunchSets<T, kWidth, kRanks, kColumns, 1, kSets>(context, in, weight, epilogue);
}

}  // namespace berth::kernels::cuda::split
