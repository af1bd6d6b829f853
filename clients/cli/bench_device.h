#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/executor.h"
#include "worker/loader/model_loader.h"

namespace berth::cli {

struct BenchDeviceOptions {
  std::string model;  // as for loader::LoadModel
  loader::LoadFormat load_format = loader::LoadFormat::kCheckpoint;
  uint64_t seed = 0;
  int threads = 2;      // of the CPU's kernels
  int slots = 16;       // sequences active at once
  int session_len = 0;  // tokens of one sequence
};

// A model that is ready to run, and what runs it. The executor goes first.
struct BenchDevice {
  std::unique_ptr<const loader::LoadedModel> model;
  std::unique_ptr<engine::Executor> executor;
  double load_seconds = 0;   // files to weights in place
  double start_seconds = 0;  // memory, warm-up
};

// The one place that knows which devices there are. Errors are the loader's and the executor's.
absl::StatusOr<BenchDevice> OpenBenchDevice(const BenchDeviceOptions& options);

}  // namespace berth::cli
