#include "clients/cli/bench_device.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/status.h"
#include "worker/runtime/cpu_executor.h"

namespace berth::cli {

absl::StatusOr<BenchDevice> OpenBenchDevice(const BenchDeviceOptions& options) {
  const auto seconds = [] { return absl::ToDoubleSeconds(base::SystemClock().Monotonic()); };
  const double start = seconds();
  BERTH_ASSIGN_OR_RETURN(loader::LoadedModel model,
                         loader::LoadModel(options.model, {.format = options.load_format, .seed = options.seed}));
  BenchDevice device{.model = std::make_unique<loader::LoadedModel>(std::move(model))};
  device.load_seconds = seconds() - start;
  const model::DecoderSpec& spec = device.model->spec;
  BERTH_ASSIGN_OR_RETURN(
      device.executor,
      runtime::MakeCpuExecutor(
          {spec, device.model->weights, spec.vocab},
          {.threads = options.threads, .slots = options.slots, .session_len = std::min(options.session_len, spec.max_position)},
          base::SystemClock()));
  device.start_seconds = seconds() - start - device.load_seconds;
  return device;
}

}  // namespace berth::cli
