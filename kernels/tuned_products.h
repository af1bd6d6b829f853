#pragma once

#include <array>
#include <cstdint>

#include "absl/types/span.h"
#include "kernels/dtype.h"

namespace berth::kernels {

// A product of bf16 matrices for which another algorithm than cuBLASLt's first proposal was measured to take at least 1.5 %
// less time. Results depend on it in their last bits, so the digest is part of a model's fingerprint.
struct TunedProduct {
  DType out;
  int64_t n, k;
  int64_t tokens;        // the most that a plan is for; see kernels/cuda/linear.cc
  uint64_t tile, split;  // the two words in which the algorithms differ

  // A cublasLtMatmulAlgo_t, which is plain data.
  std::array<uint64_t, 8> Algorithm() const;
};

// The version of cuBLASLt whose algorithms these are; others take its first proposal.
inline constexpr uint64_t kTunedLibraryVersion = 130100;
absl::Span<const TunedProduct> TunedProducts();
uint64_t TunedProductsDigest();

}  // namespace berth::kernels
