#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "kernels/cuda/context.h"

namespace berth::kernels::cuda {

// Programmatic dependent launch (CUDA programming guide, "Programmatic Dependent Launch and Synchronization"): a kernel may
// become resident while the one before it in the stream still runs. Until WaitForInputs() it must neither read what an earlier
// kernel writes nor write anything that an earlier kernel may still read. Weights never change, so prefetching them comes
// before; so may reading what is older than a step's first kernel, positions, lengths and the like, and keys of older steps.
// Where such things change between a step's kernels, the next one is launched with Context::serial. Attention of prompts behind
// that of decode rows does without: AttendEntries::inputs_ready.

// Every kernel started by Launch calls this once in every thread, before it touches activations. Nothing before sm_90.
__device__ inline void WaitForInputs() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

// Lets the next kernel in the stream become resident. Nothing before sm_90.
__device__ inline void LetSuccessorStart() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

// Which blocks of a kernel run at once: those of a cluster, or all of them, which may then wait for each other.
struct Placement {
  int ranks = 1;  // blocks of a cluster
  bool together = false;
};

// Queues `kernel` on the context's stream as a programmatic dependent of what precedes it. A fault is kept in the context.
template <typename... Parameters, typename... Arguments>
void LaunchPlaced(Context& context, void (*kernel)(Parameters...), Placement placement, dim3 grid, dim3 block,
                  size_t shared_bytes, Arguments&&... arguments) {
  context.Flush();
  context.Prepare(reinterpret_cast<const void*>(kernel));
  cudaLaunchAttribute attributes[3] = {};
  cudaLaunchConfig_t config{};
  const auto next = [&](cudaLaunchAttributeID id) -> cudaLaunchAttributeValue& {
    attributes[config.numAttrs].id = id;
    return attributes[config.numAttrs++].val;
  };
  if (!std::exchange(context.serial, false)) {
    next(cudaLaunchAttributeProgrammaticStreamSerialization).programmaticStreamSerializationAllowed = 1;
  }
  if (placement.ranks > 1) {
    auto& cluster = next(cudaLaunchAttributeClusterDimension).clusterDim;
    cluster.x = placement.ranks;
    cluster.y = cluster.z = 1;
  }
  if (placement.together) next(cudaLaunchAttributeCooperative).cooperative = 1;
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = context.stream;
  config.attrs = attributes;
  context.Note(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...), "a launch");
}

template <typename... Parameters, typename... Arguments>
void LaunchClusters(Context& context, void (*kernel)(Parameters...), int ranks, dim3 grid, dim3 block, size_t shared_bytes,
                    Arguments&&... arguments) {
  LaunchPlaced(context, kernel, {.ranks = ranks}, grid, block, shared_bytes, std::forward<Arguments>(arguments)...);
}

// The same without clusters.
template <typename... Parameters, typename... Arguments>
void Launch(Context& context, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Arguments&&... arguments) {
  LaunchPlaced(context, kernel, {}, grid, block, shared_bytes, std::forward<Arguments>(arguments)...);
}

}  // namespace berth::kernels::cuda
