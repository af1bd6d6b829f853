#include "kernels/cuda/recordings.h"

#include "absl/cleanup/cleanup.h"
#include "base/status.h"

namespace berth::kernels::cuda {

Recordings::~Recordings() {
  for (const cudaGraphExec_t graph : graphs_) cudaGraphExecDestroy(graph);
}

void Recordings::Begin(Context& context) {
  context.Flush();
  context.attend.plans = {};  // a recording makes its own
  context.Note(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal), "beginning a recording");
}

absl::StatusOr<int> Recordings::End(Context& context) {
  cudaGraph_t graph = nullptr;
  const absl::Cleanup destroy = [&graph] {
    if (graph != nullptr) cudaGraphDestroy(graph);
  };
  context.Flush();
  context.attend.plans = {};  // which no one has made yet
  context.Note(cudaStreamEndCapture(context.stream, &graph), "ending a recording");
  BERTH_RETURN_IF_ERROR(context.fault);
  cudaGraphExec_t executable = nullptr;
  context.Note(cudaGraphInstantiate(&executable, graph, 0), "instantiating a recording");
  BERTH_RETURN_IF_ERROR(context.fault);
  graphs_.push_back(executable);
  // What a first launch would do is done before serving.
  context.Note(cudaGraphUpload(executable, context.stream), "uploading a recording");
  BERTH_RETURN_IF_ERROR(context.fault);
  return static_cast<int>(graphs_.size()) - 1;
}

void Recordings::Replay(Context& context, int recording) const {
  context.Flush();
  context.Note(cudaGraphLaunch(graphs_.at(recording), context.stream), "replaying a recording");
}

}  // namespace berth::kernels::cuda
