#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "kernels/dtype.h"

namespace berth::kernels::cuda {

// How cuBLASLt computes one shape of product: its descriptors and its first heuristic choice.
struct BlasPlan {
  template <typename T, cublasStatus_t (*kDestroy)(T)>
  struct Destroy {
    void operator()(T object) const { kDestroy(object); }
  };
  using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;

  Operation operation;
  Layout weight, in, out;
  cublasLtMatmulAlgo_t algorithm{};
};

// (dtype, out dtype, N, K, bucket of M, bytes to which all rows are aligned) → plan. Made at a shape's first product, so that
// later ones and captures only look up.
using BlasPlans = std::map<std::tuple<DType, DType, int64_t, int64_t, int64_t, uint32_t>, BlasPlan>;

}  // namespace berth::kernels::cuda
