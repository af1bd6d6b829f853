#include "absl/cleanup/cleanup.h"
#include "base/check.h"
#include "kernels/cuda/stages.h"

namespace berth::kernels::cuda {
namespace {

cudaDataType_t BlasType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    default:
      BERTH_CHECK(false) << "no product in " << Info(dtype).name;
      return CUDA_R_32F;
  }
}

// cuBLASLt is column-major: outᵀ[N, M] = op(W)[N, K] · inᵀ[K, M], where our row-major matrices are the transposes of theirs.
void Product(Context& context, const Tensor& in, const LinearWeight::Segment& weight, int64_t k, float beta, void* out,
             DType out_dtype, int64_t out_stride) {
  const int64_t m = in.dim(0), n = weight.rows;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  const absl::Cleanup destroy = [&] {
    cublasLtMatmulDescDestroy(operation);
    for (const cublasLtMatrixLayout_t layout : {a, b, c}) cublasLtMatrixLayoutDestroy(layout);
  };
  context.Note(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "linear");
  const cublasOperation_t transpose = CUBLAS_OP_T;
  context.Note(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof(transpose)), "linear");
  context.Note(cublasLtMatrixLayoutCreate(&a, BlasType(weight.dtype), k, n, k), "linear");
  context.Note(cublasLtMatrixLayoutCreate(&b, BlasType(in.dtype()), k, m, in.stride(0)), "linear");
  context.Note(cublasLtMatrixLayoutCreate(&c, BlasType(out_dtype), n, m, out_stride), "linear");
  const auto [known, is_new] = context.algorithms.try_emplace({weight.dtype, out_dtype, n, k, m});
  if (is_new) {
    cublasLtMatmulPreference_t preference = nullptr;
    context.Note(cublasLtMatmulPreferenceCreate(&preference), "linear");
    context.Note(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &kBlasWorkspaceBytes, sizeof(kBlasWorkspaceBytes)),
                 "linear");
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    context.Note(cublasLtMatmulAlgoGetHeuristic(context.blas, operation, a, b, c, c, preference, 1, &result, &found), "linear");
    cublasLtMatmulPreferenceDestroy(preference);
    known->second = result.algo;
  }
  const float alpha = 1;
  context.Note(cublasLtMatmul(context.blas, operation, &alpha, weight.data, a, in.raw(), b, &beta, out, c, out, c,
                              &known->second, context.blas_workspace.data(), kBlasWorkspaceBytes, context.stream),
               "linear");
}

}  // namespace

void Linear(Context& context, const Tensor& in, const LinearWeight& weight, float beta, const Tensor& out) {
  auto* to = static_cast<std::byte*>(out.raw());
  for (const LinearWeight::Segment& segment : weight.segments) {
    BERTH_CHECK(segment.dtype == in.dtype()) << "weight is " << Info(segment.dtype).name << ", want " << Info(in.dtype()).name;
    Product(context, in, segment, weight.k, beta, to, out.dtype(), out.stride(0));
    to += RowBytes(out.dtype(), segment.rows);
  }
}

}  // namespace berth::kernels::cuda
