#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/engine/executor.h"
#include "worker/loader/progress.h"
#include "worker/options.h"
#include "worker/runtime/gpu.h"
#include "worker/service/served_model.h"

namespace berth::worker {

// What runs below the services: a model on its executor.
struct Backend {
  std::shared_ptr<const void> model;  // what the executor computes with, if anything
  service::ServedModel served;
  std::unique_ptr<engine::Executor> executor;
  int default_depth = 1;  // steps in flight that suit the executor
};

// What the options ask of GPU `device` for a model that prefers that dtype.
runtime::GpuOptions MakeGpuOptions(const WorkerOptions& options, int device, kernels::DType preferred);

// Loads the model onto the device that the options ask for, or makes the simulated one. Errors are the loader's and the
// executor's; FAILED_PRECONDITION: --device cuda, and no GPU can be used.
// `progress` hears of a model's weights.
absl::StatusOr<Backend> MakeBackend(const WorkerOptions& options, const loader::Progress& progress = nullptr);

}  // namespace berth::worker
