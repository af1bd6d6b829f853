#include <algorithm>

#include "base/status.h"
#include "kernels/cuda/stream/chain.h"
#include "kernels/cuda/stream/chain_launch.h"
#include "kernels/cuda/stream/chain_sm90.cuh"

namespace berth::kernels::cuda {

absl::Status ReserveChains(Context& context, int64_t width, Allocator& allocator) {
  context.chain_set_bytes = (stream::kMaxLinks - 1) * stream::HandedBytes(stream::kMaxTokens, width);
  BERTH_ASSIGN_OR_RETURN(context.chain_state, allocator.Allocate(sizeof(stream::ChainState)));
  BERTH_ASSIGN_OR_RETURN(context.chain_handed, allocator.Allocate(2 * context.chain_set_bytes));
  return absl::OkStatus();
}

namespace stream {

static_assert(sizeof(ChainParams<__half>) <= 4096);  // what a kernel takes

template <typename T>
void Chain<T>::Launch(Context& context) {
  for (int i = 0; i < params_.links; ++i) {
    const LinkProduct& product = params_.link[i].product;
    if (product.norm.weight != nullptr) params_.norm_bytes = std::max(params_.norm_bytes, NormBytes(product.k));
  }
  params_.stages = std::min(context.stream_tuning.stages, (kSharedBytes - kFixedBytes - params_.norm_bytes) / kStageBytes);
  params_.flying = std::min(context.stream_tuning.flying, params_.stages);
  params_.state = static_cast<ChainState*>(context.chain_state.data());
  params_.handed = static_cast<std::byte*>(context.chain_handed.data());
  params_.set_bytes = context.chain_set_bytes;
  const int shared_bytes = kFixedBytes + params_.norm_bytes + params_.stages * kStageBytes;
  LaunchPlaced(context, params_.links > 1 ? RunChain<T, true> : RunChain<T, false>,
               {.together = context.stream_tuning.together}, context.multiprocessors, kChainThreads, shared_bytes, params_);
}

template class Chain<__nv_bfloat16>;
template class Chain<__half>;

}  // namespace stream
}  // namespace berth::kernels::cuda
