#include "clients/cli/bench_device.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"
#include "worker/loader/model_files.h"
#include "worker/runtime/cpu_executor.h"
#include "worker/runtime/gpu.h"

namespace berth::cli {
namespace {

// One configuration for all loads on a GPU.
constexpr int kGpuSlots = 1024, kGpuSessionLen = 8704;
constexpr int kCpuSlots = 16;

runtime::GpuOptions GpuOptions(const BenchDeviceOptions& options, kernels::DType preferred) {
  runtime::GpuOptions gpu{.dtype = options.dtype.value_or(preferred),
                          .batch_invariant = options.batch_invariant,
                          .slots = options.slots > 0 ? options.slots : kGpuSlots,
                          .session_len = options.session_len > 0 ? options.session_len : kGpuSessionLen,
                          .kv_share = options.kv_share};
  if (options.step_tokens > 0) gpu.max_step_tokens = options.step_tokens;
  gpu.max_step_tokens = std::max(gpu.max_step_tokens, gpu.slots);
  return gpu;
}

runtime::CpuExecutorOptions CpuOptions(const BenchDeviceOptions& options, const model::DecoderSpec& spec) {
  runtime::CpuExecutorOptions cpu{.threads = options.threads,
                                  .slots = std::max(kCpuSlots, options.slots),
                                  .session_len = std::min(options.session_len, spec.max_position)};
  if (options.step_tokens > 0) cpu.max_step_tokens = options.step_tokens;
  return cpu;
}

}  // namespace

absl::StatusOr<BenchDevice> OpenBenchDevice(const BenchDeviceOptions& options, const loader::Progress& progress) {
  if (options.device != "cpu" && options.device != "cuda") {
    return absl::InvalidArgumentError(absl::StrCat("device is ", options.device, ", want cpu or cuda"));
  }
  const bool on_gpu = options.device == "cuda";
  BenchDevice device;
  absl::Duration mark = base::SystemClock().Monotonic();
  const auto lap = [&mark] {
    const absl::Duration before = std::exchange(mark, base::SystemClock().Monotonic());
    return absl::ToDoubleSeconds(mark - before);
  };
  BERTH_ASSIGN_OR_RETURN(loader::ModelFiles files, loader::OpenModel(options.model, options.load_format));
  device.load_seconds = lap();
  const runtime::GpuOptions gpu = GpuOptions(options, files.preferred_dtype);
  loader::LoadOptions load{.format = options.load_format, .seed = options.seed, .progress = progress};
  std::unique_ptr<kernels::WeightUploader> uploader;
  if (on_gpu) {
    BERTH_ASSIGN_OR_RETURN(uploader, runtime::MakeGpuUploader(gpu));
    load.uploader = uploader.get();
  }
  device.context_seconds = lap();
  BERTH_ASSIGN_OR_RETURN(loader::LoadedModel loaded, loader::LoadModel(options.model, std::move(files), load));
  uploader.reset();
  device.model = std::make_unique<loader::LoadedModel>(std::move(loaded));
  device.load_seconds += lap();

  const runtime::RunnerModel model{
      .spec = device.model->spec, .weights = device.model->weights, .tokenizer_size = device.model->spec.vocab};
  if (on_gpu) {
    BERTH_ASSIGN_OR_RETURN(device.executor, runtime::MakeGpuExecutor(model, gpu));
    device.dtype = gpu.dtype;
  } else {
    BERTH_ASSIGN_OR_RETURN(device.executor,
                           runtime::MakeCpuExecutor(model, CpuOptions(options, model.spec), base::SystemClock()));
  }
  device.start_seconds = lap();
  return device;
}

}  // namespace berth::cli
