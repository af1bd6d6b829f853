#include <algorithm>

#include "base/status.h"
#include "kernels/cuda/stream/chain.h"
#include "kernels/cuda/stream/chain_launch.h"
#include "kernels/cuda/stream/chain_sm90.cuh"

namespace berth::kernels::cuda {

absl::Status ReserveChains(Context& context, Allocator& allocator) {
  BERTH_ASSIGN_OR_RETURN(context.chain_arrivals, allocator.Allocate(sizeof(uint64_t)));
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
  params_.arrivals = static_cast<uint64_t*>(context.chain_arrivals.data());
  const int shared_bytes = kFixedBytes + params_.norm_bytes + params_.stages * kStageBytes;
  LaunchPlaced(context, RunChain<T>, {.together = context.stream_tuning.together}, context.multiprocessors, kChainThreads,
               shared_bytes, params_);
}

template class Chain<__nv_bfloat16>;
template class Chain<__half>;

}  // namespace stream
}  // namespace berth::kernels::cuda
