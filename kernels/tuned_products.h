#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "kernels/dtype.h"

namespace berth::kernels {

// A product of bf16 matrices for which another algorithm than cuBLASLt's first proposal was measured to take at least 1.5 %
// less time (2.5 % above 512 tokens). Results depend on it in their last bits, so the digest is part of a model's fingerprint.
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
// Of the numbers of tokens up to kMostTunedTokens, sorted by N, K, type and tokens. With more tokens the card's power decides,
// and what is faster for some milliseconds is not so for a whole prompt.
inline constexpr int64_t kMostTunedTokens = 2048;
absl::Span<const TunedProduct> TunedProducts();
uint64_t TunedProductsDigest();

// The text of tuned_products_table.cc with these products.
std::string FormatTunedProducts(absl::Span<const TunedProduct> products);

}  // namespace berth::kernels
