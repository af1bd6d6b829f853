#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/blas_choice.h"
#include "kernels/cuda/split/split.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/stream.h"
#include "kernels/tuned_products.h"

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

// The largest power of two up to 16 that divides all of `values`, which are addresses and strides in bytes.
uint32_t Alignment(std::initializer_list<uintptr_t> values) {
  uintptr_t all = 16;
  for (const uintptr_t value : values) all |= value;
  return static_cast<uint32_t>(all & -all);
}

void SetRows(Context& context, const BlasPlan::Layout& layout, int64_t rows, int64_t stride) {
  context.Note(cublasLtMatrixLayoutSetAttribute(layout.get(), CUBLASLT_MATRIX_LAYOUT_COLS, &rows, sizeof(rows)), "linear");
  context.Note(cublasLtMatrixLayoutSetAttribute(layout.get(), CUBLASLT_MATRIX_LAYOUT_LD, &stride, sizeof(stride)), "linear");
}

void Product(Context& context, const Tensor& in, const LinearWeight::Segment& weight, int64_t k, float beta, void* out,
             DType out_dtype, int64_t out_stride) {
  const int64_t m = in.dim(0), n = weight.rows, bucket = PlanTokens(context.batch_invariant ? kSharedPlanTokens : m);
  const auto address = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); };
  const uint32_t alignment = Alignment({address(weight.data), RowBytes(weight.dtype, k), address(in.raw()),
                                        RowBytes(in.dtype(), in.stride(0)), address(out), RowBytes(out_dtype, out_stride)});
  const auto [known, is_new] = context.blas_plans.try_emplace({weight.dtype, out_dtype, n, k, bucket, alignment});
  BlasPlan& plan = known->second;
  if (is_new) {
    std::optional<BlasPlan> made = MakeBlasPlan(context, known->first, std::nullopt);
    BERTH_CHECK(made || !context.fault.ok())
        << "cuBLASLt has no product for n " << n << ", k " << k << ", alignment " << alignment;
    if (made) plan = *std::move(made);
  }
  context.Flush();
  SetRows(context, plan.in, m, in.stride(0));
  SetRows(context, plan.out, m, out_stride);
  const float alpha = 1;
  context.Note(cublasLtMatmul(context.blas, plan.operation.get(), &alpha, weight.data, plan.weight.get(), in.raw(),
                              plan.in.get(), &beta, out, plan.out.get(), out, plan.out.get(), &plan.algorithm,
                              context.blas_workspace.data(), kBlasWorkspaceBytes, context.stream),
               "linear");
}

// Gives `plan` the algorithm that was measured to be best for the shape. False: none was, or this library or device lacks it.
bool SetTuned(Context& context, const BlasPlans::key_type& shape, BlasPlan& plan) {
  const auto [dtype, out_dtype, n, k, m, alignment] = shape;
  if (dtype != DType::kBF16 || alignment < 16 || cublasLtGetVersion() != kTunedLibraryVersion) return false;
  const absl::Span<const TunedProduct> products = TunedProducts();
  const auto* const tuned =
      std::find_if(products.begin(), products.end(), [&, out = out_dtype, n = n, k = k, m = m](const TunedProduct& product) {
        return product.out == out && product.n == n && product.k == k && product.tokens == m;
      });
  if (tuned == products.end()) return false;
  const auto algorithm = tuned->Algorithm();
  static_assert(sizeof(plan.algorithm) == sizeof(algorithm));
  std::memcpy(&plan.algorithm, algorithm.data(), sizeof(algorithm));
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(context.blas, plan.operation.get(), plan.weight.get(), plan.in.get(), plan.out.get(),
                                 plan.out.get(), &plan.algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kBlasWorkspaceBytes;
}

}  // namespace

int64_t PlanTokens(int64_t tokens) {
  int64_t power = 1;
  while (power < tokens && power < 64) power *= 2;
  if (tokens <= power) return power;
  const int64_t step = tokens <= 1024 ? 64 : tokens <= 2048 ? 128 : tokens <= 4096 ? 256 : 512;
  return (tokens + step - 1) / step * step;
}

// cuBLASLt is column-major: outᵀ[N, M] = op(W)[N, K] · inᵀ[K, M], where our row-major matrices are the transposes of theirs.
std::optional<BlasPlan> MakeBlasPlan(Context& context, const BlasPlans::key_type& shape, std::optional<int> choice) {
  const auto [dtype, out_dtype, n, k, m, alignment] = shape;
  BlasPlan plan;
  cublasLtMatmulDesc_t operation = nullptr;
  context.Note(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "linear");
  plan.operation.reset(operation);
  const cublasOperation_t transpose = CUBLAS_OP_T;
  context.Note(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof(transpose)), "linear");
  const auto layout = [&](DType type, int64_t rows, int64_t columns) {
    cublasLtMatrixLayout_t made = nullptr;
    context.Note(cublasLtMatrixLayoutCreate(&made, BlasType(type), rows, columns, rows), "linear");
    return BlasPlan::Layout(made);
  };
  plan.weight = layout(dtype, k, n);
  plan.in = layout(dtype, k, m);
  plan.out = layout(out_dtype, n, m);
  if (!choice && !context.batch_invariant && SetTuned(context, shape, plan)) return plan;
  const int proposal = choice.value_or(0);
  cublasLtMatmulPreference_t preference = nullptr;
  context.Note(cublasLtMatmulPreferenceCreate(&preference), "linear");
  context.Note(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kBlasWorkspaceBytes,
                                                    sizeof(kBlasWorkspaceBytes)),
               "linear");
  if (context.batch_invariant) {
    const uint32_t whole_sums = CUBLASLT_REDUCTION_SCHEME_NONE;  // how K is cut could depend on the number of tokens
    context.Note(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole_sums,
                                                      sizeof(whole_sums)),
                 "linear");
  }
  for (const cublasLtMatmulPreferenceAttributes_t matrix :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    context.Note(cublasLtMatmulPreferenceSetAttribute(preference, matrix, &alignment, sizeof(alignment)), "linear");
  }
  std::vector<cublasLtMatmulHeuristicResult_t> results(proposal + 1);
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(context.blas, operation, plan.weight.get(), plan.in.get(), plan.out.get(), plan.out.get(),
                                     preference, proposal + 1, results.data(), &found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (proposal == 0) context.Note(status, "linear");
  if (found <= proposal) return std::nullopt;
  plan.algorithm = results[proposal].algo;
  return plan;
}

void Linear(Context& context, const Tensor& in, const LinearWeight& weight, float beta, const Tensor& out) {
  BERTH_CHECK(beta == 0 || beta == 1) << "beta " << beta;
  const LinearFinish finish{.accumulate = beta == 1};
  if (SplitLinear(context, in, weight, finish, out) || StreamLinear(context, in, weight, finish, out)) return;
  auto* to = static_cast<std::byte*>(out.raw());
  for (const LinearWeight::Segment& segment : weight.segments) {
    BERTH_CHECK(segment.dtype == in.dtype()) << "weight is " << Info(segment.dtype).name << ", want " << Info(in.dtype()).name;
    Product(context, in, segment, weight.k, beta, to, out.dtype(), out.stride(0));
    to += RowBytes(out.dtype(), segment.rows);
  }
}

}  // namespace berth::kernels::cuda
