#include "kernels/cuda/recordings.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/status.h"
#include "kernels/ops.h"

namespace berth::kernels::cuda {
namespace {

// What has run longer, with what the step before still has to do, than the rest takes to record.
constexpr int kFirstLayers = 6;

// What was queued since the capture began; null after a fault.
cudaGraphExec_t EndCapture(Context& context) {
  context.Flush();
  cudaGraph_t graph = nullptr;
  const absl::Cleanup destroy = [&graph] {
    if (graph != nullptr) cudaGraphDestroy(graph);
  };
  context.Note(cudaStreamEndCapture(context.stream, &graph), "ending a recording");
  cudaGraphExec_t executable = nullptr;
  if (context.fault.ok()) context.Note(cudaGraphInstantiate(&executable, graph, 0), "instantiating a recording");
  return executable;
}

}  // namespace

Recordings::~Recordings() {
  for (const cudaGraphExec_t graph : graphs_) cudaGraphExecDestroy(graph);
}

void Recordings::Begin(Context& context) {
  context.Flush();
  context.attend.plans = {};  // a recording makes its own
  context.Note(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal), "beginning a recording");
}

absl::StatusOr<int> Recordings::End(Context& context) {
  const cudaGraphExec_t executable = EndCapture(context);
  context.attend.plans = {};  // which no one has made yet
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

StepGraphs::~StepGraphs() {
  for (const cudaGraphExec_t graph : graphs_) cudaGraphExecDestroy(graph);
}

void StepGraphs::Begin() {
  state_ = State::kFirstLayers;
  attended_ = 0;
}

void StepGraphs::Attended(Context& context) {
  if (state_ != State::kFirstLayers || ++attended_ < kFirstLayers) return;
  context.Flush();
  // Relaxed, as what is used for the first time is loaded meanwhile.
  context.Note(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeRelaxed), "beginning a step's graph");
  state_ = State::kRecording;
}

void StepGraphs::End(Context& context) {
  if (std::exchange(state_, State::kOff) != State::kRecording) return;
  const cudaGraphExec_t executable = EndCapture(context);
  if (executable == nullptr) return;
  context.Note(cudaGraphLaunch(executable, context.stream), "launching a step's graph");
  graphs_.push_back(executable);
  if (static_cast<int>(graphs_.size()) <= Ops::kMarks) return;
  context.Note(cudaGraphExecDestroy(graphs_.front()), "dropping a step's graph");
  graphs_.pop_front();
}

}  // namespace berth::kernels::cuda
