// What this device does on three jobs that bound an engine: reading, a product that is all reading, a product that is all
// multiplying. Figures of one day are comparable with another's when these agree within 2 %.
//
// usage: anchors_bench        one line of JSON: bytes/s, bytes/s, FLOP/s; medians
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "kernels/buffer.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/bench/bulk_read.cuh"

namespace berth::kernels {
namespace {

constexpr int kRepeats = 15;
constexpr size_t kWeightBytes = size_t{4} << 30;  // far more than any cache holds
constexpr int kSide = 8192;                       // of the products

void Check(cudaError_t error) { BERTH_CHECK(error == cudaSuccess) << cudaGetErrorString(error); }
void Check(cublasStatus_t status) { BERTH_CHECK(status == CUBLAS_STATUS_SUCCESS) << cublasLtGetStatusString(status); }

// Seconds of one call of `queue`, which puts its work on `stream`; median.
template <typename Queue>
double Time(cudaStream_t stream, Queue queue) {
  cudaEvent_t begin, end;
  Check(cudaEventCreate(&begin));
  Check(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = -2; i < kRepeats; ++i) {
    Check(cudaEventRecord(begin, stream));
    queue();
    Check(cudaEventRecord(end, stream));
    Check(cudaEventSynchronize(end));
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 0) times.push_back(milliseconds);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
  return 1e-3 * times[kRepeats / 2];
}

// out [m, n] = in [m, k] weight [n, k]^T with n = k = kSide, in bf16.
class Product {
 public:
  Product(int m, cudaStream_t stream) : stream_(stream), workspace_(*MakeCudaAllocator(0)->Allocate(kWorkspace)) {
    Check(cublasLtCreate(&handle_));
    Check(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transpose = CUBLAS_OP_T;
    Check(cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof(transpose)));
    Check(cublasLtMatrixLayoutCreate(&weight_, CUDA_R_16BF, kSide, kSide, kSide));
    Check(cublasLtMatrixLayoutCreate(&in_, CUDA_R_16BF, kSide, m, kSide));
    cublasLtMatmulPreference_t preference;
    Check(cublasLtMatmulPreferenceCreate(&preference));
    Check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
                                               sizeof(kWorkspace)));
    int found = 0;
    Check(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, weight_, in_, in_, in_, preference, 1, &choice_, &found));
    BERTH_CHECK(found == 1) << "no algorithm";
  }

  void Queue(const std::byte* weight, const std::byte* in, std::byte* out) {
    const float one = 1, zero = 0;
    Check(cublasLtMatmul(handle_, operation_, &one, weight, weight_, in, in_, &zero, out, in_, out, in_, &choice_.algo,
                         workspace_.data(), kWorkspace, stream_));
  }

 private:
  static constexpr size_t kWorkspace = size_t{32} << 20;
  const cudaStream_t stream_;
  Buffer workspace_;
  cublasLtHandle_t handle_;
  cublasLtMatmulDesc_t operation_;
  cublasLtMatrixLayout_t weight_, in_;
  cublasLtMatmulHeuristicResult_t choice_;
};

int Run() {
  cudaDeviceProp properties;
  Check(cudaGetDeviceProperties(&properties, 0));
  cudaStream_t stream;
  Check(cudaStreamCreate(&stream));
  const auto allocator = MakeCudaAllocator(0);
  const Buffer weights = *allocator->Allocate(kWeightBytes), in = *allocator->Allocate(2 * kSide * kSide),
               out = *allocator->Allocate(2 * kSide * kSide);
  const auto bytes_of = [](const Buffer& buffer) { return static_cast<std::byte*>(buffer.data()); };
  cuda::FillRandomWeights(1, 0.02f, kWeightBytes / 2, DType::kBF16, bytes_of(weights), stream);
  cuda::FillRandomWeights(2, 1, int64_t{kSide} * kSide, DType::kBF16, bytes_of(in), stream);

  const double read = Time(stream, [&] {
    bench::QueueBulkRead(stream, properties.multiProcessorCount, weights.data(), kWeightBytes);
    Check(cudaGetLastError());
  });

  constexpr size_t kMatrixBytes = size_t{2} * kSide * kSide;
  constexpr int kMatrices = kWeightBytes / kMatrixBytes, kFew = 64;
  Product small(kFew, stream), square(kSide, stream);
  const double few = Time(stream, [&] {
    for (int i = 0; i < kMatrices; ++i) small.Queue(bytes_of(weights) + i * kMatrixBytes, bytes_of(in), bytes_of(out));
  });
  const double many = Time(stream, [&] { square.Queue(bytes_of(weights), bytes_of(in), bytes_of(out)); });
  std::printf("{\"device\": \"%s\", \"bulk_read\": %.4g, \"product_64\": %.4g, \"product_8192\": %.4g}\n", properties.name,
              kWeightBytes / read, kWeightBytes / few, 2.0 * kSide * kSide * kSide / many);
  return 0;
}

}  // namespace
}  // namespace berth::kernels

int main() { return berth::kernels::Run(); }
