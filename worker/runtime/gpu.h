#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "kernels/weight_uploader.h"
#include "worker/engine/executor.h"
#include "worker/runtime/model_runner.h"
#include "worker/runtime/queued_executor.h"

namespace berth::runtime {

// The GPU as the wiring sees it: gpu_cuda.cc in builds with BERTH_CUDA, else gpu_none.cc, which knows of no device.

struct GpuOptions {
  int device = 0;
  kernels::DType dtype = kernels::DType::kBF16;  // of weights, activations and KV: bf16 or f16
  bool generic_kernels = false;                  // only kernels that run on every device
  bool batch_invariant = false;                  // a row's logits are the same bits whatever rows are beside it; slower
  int slots = 256;                               // sequences active at once
  int max_step_tokens = 8192;
  int session_len = 0;     // tokens of one sequence; 0: the model's context length
  double kv_share = 0.8;   // of the memory that weights and activations leave
  size_t kv_bytes = 0;     // takes no more than that; 0: no bound
  bool recordings = true;  // decode steps are CUDA graphs
  absl::Status Validate() const;
};

// FAILED_PRECONDITION says why no kernel can run on the device.
absl::Status CheckGpu(int device);

// UNIMPLEMENTED names what of the model no CUDA kernel computes.
absl::Status CheckGpuModel(const model::DecoderSpec& spec);

// What of such a model only the kernels for all shapes take, which are not tuned; empty: nothing.
std::string UntunedShapes(const model::DecoderSpec& spec);

// Where the weights of a model go that MakeGpuExecutor is to run with the same options.
absl::StatusOr<std::unique_ptr<kernels::WeightUploader>> MakeGpuUploader(const GpuOptions& options);

// The device's memory and kernels for steps of such a model, without a runner. Errors as of MakeGpuExecutor.
absl::StatusOr<RunnerDevice> OpenGpu(const model::DecoderSpec& spec, const GpuOptions& options);

// The executor of a model whose weights are in the device's memory. Everything it will ever need is reserved and recorded when
// this returns. INVALID_ARGUMENT names the option that does not fit the model; RESOURCE_EXHAUSTED says what does not fit the
// device and how much is missing.
absl::StatusOr<std::unique_ptr<engine::Executor>> MakeGpuExecutor(const RunnerModel& model, const GpuOptions& options);

}  // namespace berth::runtime
