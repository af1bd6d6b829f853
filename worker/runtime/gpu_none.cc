#include "worker/runtime/gpu.h"

namespace berth::runtime {

absl::Status CheckGpu(int device) { return absl::FailedPreconditionError("this program was built without CUDA"); }

absl::Status CheckGpuModel(const model::DecoderSpec& spec) { return CheckGpu(0); }

std::string UntunedShapes(const model::DecoderSpec& spec) { return {}; }

absl::StatusOr<std::unique_ptr<kernels::WeightUploader>> MakeGpuUploader(const GpuOptions& options) {
  return CheckGpu(options.device);
}

absl::StatusOr<RunnerDevice> OpenGpu(const model::DecoderSpec& spec, const GpuOptions& options) {
  return CheckGpu(options.device);
}

absl::StatusOr<std::unique_ptr<engine::Executor>> MakeGpuExecutor(const RunnerModel& model, const GpuOptions& options) {
  return CheckGpu(options.device);
}

}  // namespace berth::runtime
