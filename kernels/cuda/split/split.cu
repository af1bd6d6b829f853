#include "kernels/cuda/split/split.h"
#include "kernels/cuda/split/split_launch.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int64_t kMinRows = 1024;
constexpr int kRanks = 4, kColumns = 2, kWidths[] = {80, 128, 144, 208};

// A product that is shorter than what is around it leaves more SMs to that. Of more tokens it is slower than cuBLASLt's.
constexpr int64_t kShortElements = int64_t{4} << 20, kShortTokens = 128;

// Up to how many tokens a cluster has one tile, and no other block to copy them with: they are few beside its rows, and a
// cluster of half the size finds its SMs sooner.
constexpr int64_t AloneTokens(int width) { return std::min(split::kSetTokens, width * 4 / 9); }

// Rows of the narrowest tile of which all are multiplied at once, 0 if there is none.
int WidthOf(const Context& context, int64_t n, int64_t k) {
  const int64_t tiles = split::TilesAtOnce(context, kRanks, kColumns);
  for (const int width : kWidths) {
    if (n <= tiles * width && (width > kWidths[0] || n * k > kShortElements)) return width;
  }
  return 0;
}

}  // namespace

bool SplitLinear(Context& context, const Tensor& in, const LinearWeight& weight, const LinearFinish& finish,
                 const Tensor& out) {
  const int64_t n = weight.n(), width = WidthOf(context, n, weight.k);
  if (n * weight.k <= kShortElements && in.dim(0) > kShortTokens) return false;
  if (width == 0 || n < kMinRows || n % 8 != 0 || out.dtype() != in.dtype() || !TakesVectors(out.raw(), out.stride(0)) ||
      !TakesVectors(finish.bias.raw(), 0)) {
    return false;
  }
  if (in.dim(0) > split::MostTokens(width)) return SplitLinearInParts(context, in, weight, finish, out);
  if (!split::Takes(context, in, weight, kRanks, split::MostTokens(width))) return false;
  bool taken = false;
  WithActivation(in.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto epilogue = split::StoreEpilogue<T>::Of(finish, out);
    const auto launch = [&]<int kIndex>() {
      constexpr int kWidth = kWidths[kIndex];
      if (width != kWidth) return;
      taken = in.dim(0) <= AloneTokens(kWidth) ? split::LaunchSets<T, kWidth, kRanks, 1, 1, 1>(context, in, weight, epilogue)
                                               : split::Launch<T, kWidth, kRanks, kColumns>(context, in, weight, epilogue);
    };
    launch.template operator()<0>();
    launch.template operator()<1>();
    launch.template operator()<2>();
    launch.template operator()<3>();
  });
  return taken;
}

}  // namespace berth::kernels::cuda
