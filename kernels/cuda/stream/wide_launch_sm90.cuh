#pragma once

#include <algorithm>

#include "kernels/cuda/context.h"
#include "kernels/cuda/stream/wide_product_sm90.cuh"
#include "kernels/cuda/util/launch.cuh"

namespace berth::kernels::cuda::stream {

// How many blocks share a tile: as many as run at once. With more than one, every cluster has one tile.
template <typename Kernel>
int RanksOf(Context& context, Kernel kernel, const WideParams& params, int shared_bytes) {
  const int slots = context.stream_tuning.ctas_per_sm * context.multiprocessors;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.blockDim = kThreads;
  config.dynamicSmemBytes = shared_bytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  for (int ranks = kWideMaxRanks; ranks > 1; ranks /= 2) {
    if (params.tiles * ranks > slots || params.k < ranks * kWideChunk) continue;
    attribute.val.clusterDim.x = ranks;
    config.gridDim = params.tiles * ranks;
    int clusters = 0;
    context.Note(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config), "a kernel's setup");
    if (params.tiles <= clusters) return ranks;
  }
  return 1;
}

template <typename T, int kTokens, bool kNormed, typename Epilogue>
void LaunchWide(Context& context, const WideParams& params, const Epilogue& epilogue) {
  const auto kernel = WideProduct<T, kTokens, kNormed, Epilogue>;
  const int shared_bytes = params.stages * WideStageBytes(kTokens) + WideFixedBytes(kTokens);
  context.Prepare(reinterpret_cast<const void*>(kernel));
  const int ranks = RanksOf(context, kernel, params, shared_bytes);
  const int blocks =
      ranks > 1 ? params.tiles * ranks : std::min(params.tiles, context.stream_tuning.ctas_per_sm * context.multiprocessors);
  LaunchClusters(context, kernel, ranks, blocks, kThreads, shared_bytes, params, epilogue);
}

// `params` comes from WideParamsOf; `Epilogue`: see epilogues.cuh.
template <typename T, bool kNormed, typename Epilogue>
void LaunchWide(Context& context, const WideParams& params, const Epilogue& epilogue) {
  if (params.padded_tokens == kWideMinTokens) {
    LaunchWide<T, kWideMinTokens, kNormed>(context, params, epilogue);
  } else {
    LaunchWide<T, kWideMaxTokens, kNormed>(context, params, epilogue);
  }
}

}  // namespace berth::kernels::cuda::stream
