#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/context.h"

namespace berth::kernels::cuda {

// The CUDA graphs of one CudaOps. Thread: the executor's.
class Recordings {
 public:
  Recordings() = default;
  Recordings(const Recordings&) = delete;
  ~Recordings();

  void Begin(Context& context);
  // The number of what was queued since Begin. UNAVAILABLE: it cannot be recorded.
  absl::StatusOr<int> End(Context& context);
  void Replay(Context& context, int recording) const;

 private:
  std::vector<cudaGraphExec_t> graphs_;
};

}  // namespace berth::kernels::cuda
