#pragma once

#include <cstdint>
#include <cstddef>
#include <algorithm>

namespace berth::kernels::cuda {

// EXPERIMENT: what the products after attention read first.
struct AheadWeights {
  const std::byte* out = nullptr;
  const std::byte* gate = nullptr;
  const std::byte* up = nullptr;
  int out_tiles = 0, up_tiles = 0;
  int row_bytes_out = 0, row_bytes_up = 0;
  int tail_bytes = 0, attend_bytes = 0;  // of a share
};

#ifdef __CUDACC__
__device__ inline void PrefetchPiece(const std::byte* base, int begin, int end, int from, int to) {
#if __CUDA_ARCH__ >= 900
  // bytes [from, to) relative to begin
  const int b = begin + from, e = min(begin + to, end);
  if (b >= e) return;
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(base + b)), "r"(e - b) : "memory");
#endif
}
__device__ inline void PrefetchShare(const AheadWeights& w, int share, int shares, int from, int to) {
  const int tile = w.row_bytes_out * 16;
  const int b = share * w.out_tiles / shares * tile, e = (share + 1) * w.out_tiles / shares * tile;
  const int out = e - b;
  if (from < out) PrefetchPiece(w.out, b, e, from, min(to, out));
  if (to > out) {
    const int pair = w.row_bytes_up * 8;
    const int ub = share * w.up_tiles / shares * pair, ue = (share + 1) * w.up_tiles / shares * pair;
    const int f = max(from - out, 0) / 2, t = (to - out) / 2;
    PrefetchPiece(w.gate, ub, ue, f, t);
    PrefetchPiece(w.up, ub, ue, f, t);
  }
}
#endif

}  // namespace berth::kernels::cuda
