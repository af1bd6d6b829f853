#include <algorithm>

#include "base/status.h"
#include "kernels/cuda/stream/chain.h"
#include "kernels/cuda/stream/chain_launch.h"
#include "kernels/cuda/stream/chain_sm90.cuh"
#include "kernels/cuda/stream/stream.h"

namespace berth::kernels::cuda {

absl::Status ReserveChains(Context& context, Allocator& allocator) {
  BERTH_ASSIGN_OR_RETURN(context.chain_arrivals, allocator.Allocate(sizeof(uint64_t)));
  return absl::OkStatus();
}

namespace stream {

static_assert(sizeof(ChainParams<__half, true>) <= 32764);  // what a kernel takes

template <typename T>
void Chain<T>::Launch(Context& context) {
  if (links_attend_) {
    LaunchLinks<true>(context);
  } else if (params_.links > 0) {
    LaunchLinks<false>(context);
  }
  if (attends()) AttendDecode<T>(context, attend_.params, attend_.entries);
}

template <typename T>
template <bool kAttends>
void Chain<T>::LaunchLinks(Context& context) {
  using Params = ChainParams<T, kAttends>;
  Params params;
  params.links = params_.links;
  std::copy_n(params_.link, params.links, params.link);
  for (int i = 0; i < params.links; ++i) {
    const LinkProduct& product = params.link[i].product;
    if (product.norm.weight != nullptr) params.norm_bytes = std::max(params.norm_bytes, NormBytes(product.k));
  }
  params.stages = std::min(context.stream_tuning.stages, (kSharedBytes - kFixedBytes - params.norm_bytes) / kStageBytes);
  params.flying = std::min(context.stream_tuning.flying, params.stages);
  params.parts = static_cast<DecodePart*>(context.attend.parts.data());
  params.arrivals = static_cast<uint64_t*>(context.chain_arrivals.data());
  const int shared_bytes = kFixedBytes + params.norm_bytes + params.stages * kStageBytes;
  LaunchPlaced(context, RunChain<Params>, {.together = context.stream_tuning.together}, context.multiprocessors, kChainThreads,
               shared_bytes, params);
}

template class Chain<__nv_bfloat16>;
template class Chain<__half>;

}  // namespace stream

template <typename T>
bool StreamAttend(Context& context, const AttendParams& params, int entries) {
  if (!context.hopper || entries > stream::kMaxTokens || params.kv.key_dim != stream::kAttendDim ||
      params.group > kDecodeHeads || entries * params.kv.kv_heads > context.multiprocessors) {
    return false;
  }
  const auto suits = [](const stream::Chain<T>& pending) { return !pending.attends(); };
  stream::PendingChain<T>(context, suits).Attend(params, entries);
  return true;
}

template bool StreamAttend<__nv_bfloat16>(Context&, const AttendParams&, int);
template bool StreamAttend<__half>(Context&, const AttendParams&, int);

}  // namespace berth::kernels::cuda
