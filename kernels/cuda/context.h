#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>

#include "absl/status/status.h"
#include "kernels/buffer.h"
#include "kernels/dtype.h"

namespace berth::kernels::cuda {

inline constexpr size_t kBlasWorkspaceBytes = size_t{32} << 20;

// What attention keeps. See attend/.
struct AttendResources {
  int multiprocessors = 0, decode_blocks = 0;
  Buffer partial, state;              // where the blocks of decode attention leave their parts of a row
  Buffer ticket;                      // i32 [decode_blocks + 1] counters, 0 between launches
  void* encode_tensor_map = nullptr;  // the driver's cuTensorMapEncodeTiled; null: no Hopper kernels
};

// What the ops of one CudaOps share. Thread: the executor's.
struct Context {
  cudaStream_t stream = nullptr;
  cublasLtHandle_t blas = nullptr;
  Buffer blas_workspace;
  Buffer normed;   // [max_tokens, max_hidden] activations
  Buffer product;  // [max_tokens, max_product] f32 or activations
  AttendResources attend;
  // (dtype, out dtype, N, K, M) → the algorithm that was chosen for it.
  std::map<std::tuple<DType, DType, int64_t, int64_t, int64_t>, cublasLtMatmulAlgo_t> algorithms;
  absl::Status fault;  // first one since the last Sync

  // Keeps the first error of launches and library calls.
  void Note(cudaError_t error, std::string_view what);
  void Note(cublasStatus_t status, std::string_view what);
};

}  // namespace berth::kernels::cuda
