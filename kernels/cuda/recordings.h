#pragma once

#include <cuda_runtime.h>

#include <deque>
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

// Of steps that run once: all behind the first layers as a graph, which is recorded while those run. Between kernels that wait
// for the one before to end, such as cuBLASLt's, a graph takes 0.2 us, a stream up to 2. Thread: the executor's.
class StepGraphs {
 public:
  StepGraphs() = default;
  StepGraphs(const StepGraphs&) = delete;
  ~StepGraphs();

  void Begin();
  // Behind the attention of every layer.
  void Attended(Context& context);
  void End(Context& context);

 private:
  enum class State { kOff, kFirstLayers, kRecording };

  State state_ = State::kOff;
  int attended_ = 0;
  std::deque<cudaGraphExec_t> graphs_;  // of the latest steps, which may be under way
};

}  // namespace berth::kernels::cuda
