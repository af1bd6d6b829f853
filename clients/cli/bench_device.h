#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "worker/engine/executor.h"
#include "worker/loader/model_loader.h"

namespace berth::cli {

struct BenchDeviceOptions {
  std::string model;  // as for loader::LoadModel
  loader::LoadFormat load_format = loader::LoadFormat::kCheckpoint;
  uint64_t seed = 0;
  std::string device = "cpu";           // or cuda
  std::optional<kernels::DType> dtype;  // of a GPU's weights, activations and KV: bf16 or f16; nothing: what suits the model
  int slots = 0;                        // sequences active at once; 0: 16, on a GPU 1024
  int session_len = 0;                  // tokens of one sequence; 0: on a GPU 8704
  int step_tokens = 0;                  // of one step; 0: the executor's default
  double kv_share = 0.8;                // of a GPU's memory that weights and activations leave
  bool batch_invariant = false;         // on a GPU
  int threads = 2;                      // of the CPU's kernels
};

// A model that is ready to run, and what runs it. The executor goes first.
struct BenchDevice {
  std::unique_ptr<const loader::LoadedModel> model;
  std::unique_ptr<engine::Executor> executor;
  kernels::DType dtype = kernels::DType::kF32;  // of activations and KV
  double context_seconds = 0;                   // to wake the device
  double load_seconds = 0;                      // files to weights in place: maps, copies and converts
  double start_seconds = 0;                     // memory, warm-up or recording of steps
};

// The one place that knows which devices there are. `progress` hears of the weights. Errors are the loader's and the
// executor's.
absl::StatusOr<BenchDevice> OpenBenchDevice(const BenchDeviceOptions& options, const loader::Progress& progress);

}  // namespace berth::cli
