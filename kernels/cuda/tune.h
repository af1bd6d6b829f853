#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/tuned_products.h"

namespace berth::kernels {

// A product of bf16 weights as models have it: out [tokens, n] = in [tokens, k] · Wᵀ, added to `out` if `accumulate`.
struct ProductShape {
  DType out;
  int64_t n, k;
  bool accumulate = false;
  int64_t most_tokens = kMostTunedTokens;
};

struct TuneOptions {
  int device = 0;
  int proposals = 8;  // of cuBLASLt's for every shape and number of tokens
};

// What was measured for one shape and number of tokens, µs.
struct ProductTiming {
  ProductShape shape;
  int64_t tokens = 0;
  double now = 0, best = 0;  // with the algorithm of the present table, and with the best of the proposals
  bool changed = false;      // the best is so in three measurements by so much that it replaces the present one
};

// The table that serves `shapes` best: for every number of tokens that a plan is for the present algorithm, or another
// proposal where that takes so much less time as TunedProduct says, in each of three measurements. Products of other shapes
// stay as they are. FAILED_PRECONDITION: no device, or a cuBLASLt whose algorithms the table does not name.
absl::StatusOr<std::vector<TunedProduct>> TuneProducts(absl::Span<const ProductShape> shapes, const TuneOptions& options,
                                                       const std::function<void(const ProductTiming&)>& on_timing);

}  // namespace berth::kernels
