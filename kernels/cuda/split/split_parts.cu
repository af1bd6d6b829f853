#include "kernels/cuda/split/split.h"
#include "kernels/cuda/split/split_launch.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kParts = 2, kSets = 2;
// With few rows of the weight K is cut more often; then cuBLASLt's is as fast with the last tokens.
constexpr int64_t kMostTokens = kParts * kSets * split::kSetTokens, kMostOfFewRows = 240;

}  // namespace

bool SplitLinearInParts(Context& context, const Tensor& in, const LinearWeight& weight, const LinearFinish& finish,
                        const Tensor& out) {
  if (weight.k < 2 * weight.n()) return false;
  bool decided = false, taken = false;
  WithActivation(in.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto launch = [&]<int kWidth, int kRanks, int kColumns>(int64_t most_tokens) {
      if (decided || weight.n() > split::TilesAtOnce(context, kRanks, kColumns, kParts) * kWidth) return;
      decided = true;
      if (!split::Takes(context, in, weight, kRanks, most_tokens)) return;
      const auto epilogue = split::StoreEpilogue<T>::Of(finish, out);
      taken = split::LaunchSets<T, kWidth, kRanks, kColumns, kParts, kSets>(context, in, weight, epilogue);
    };
    launch.template operator()<144, 4, 1>(kMostOfFewRows);
    launch.template operator()<128, 2, 2>(kMostTokens);
    launch.template operator()<144, 2, 2>(kMostTokens);
    launch.template operator()<208, 2, 2>(kMostTokens);
  });
  return taken;
}

}  // namespace berth::kernels::cuda
