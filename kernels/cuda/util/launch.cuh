#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "kernels/cuda/context.h"

namespace berth::kernels::cuda {

// Programmatic dependent launch (CUDA programming guide, "Programmatic Dependent Launch and Synchronization"): a kernel may
// become resident while the one before it in the stream still runs. Until WaitForInputs() it must neither read what an earlier
// kernel writes nor write anything that an earlier kernel may still read; weights never change, so prefetching them comes
// before.

// What a kernel gets without asking for more.
inline constexpr size_t kDefaultSharedBytes = 48 << 10;

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

// Lets `kernel` have its shared memory. Every kernel asks for the largest: an SM that had to change its split between L1 and
// shared memory would first have to run empty.
template <typename... Parameters>
void AllowShared(Context& context, void (*kernel)(Parameters...), size_t shared_bytes) {
  const auto* function = reinterpret_cast<const void*>(kernel);
  context.Note(cudaFuncSetAttribute(function, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
               "a kernel's setup");
  if (shared_bytes > kDefaultSharedBytes) {
    context.Note(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
                 "a kernel's setup");
  }
}

// Queues `kernel` on the context's stream as a programmatic dependent of what precedes it, in clusters of `ranks` blocks. A
// fault is kept in the context.
template <typename... Parameters, typename... Arguments>
void LaunchClusters(Context& context, void (*kernel)(Parameters...), int ranks, dim3 grid, dim3 block, size_t shared_bytes,
                    Arguments&&... arguments) {
  AllowShared(context, kernel, shared_bytes);
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = ranks;
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = context.stream;
  config.attrs = attributes;
  config.numAttrs = ranks > 1 ? 2 : 1;
  context.Note(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...), "a launch");
}

// The same without clusters.
template <typename... Parameters, typename... Arguments>
void Launch(Context& context, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Arguments&&... arguments) {
  LaunchClusters(context, kernel, 1, grid, block, shared_bytes, std::forward<Arguments>(arguments)...);
}

}  // namespace berth::kernels::cuda
