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

// Queues `kernel` on the context's stream as a programmatic dependent of what precedes it. A fault is kept in the context.
// Every kernel asks for the largest shared memory: an SM that had to change its split between L1 and shared memory would first
// have to run empty.
template <typename... Parameters, typename... Arguments>
void Launch(Context& context, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Arguments&&... arguments) {
  const auto* function = reinterpret_cast<const void*>(kernel);
  context.Note(cudaFuncSetAttribute(function, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
               "a kernel's setup");
  if (shared_bytes > kDefaultSharedBytes) {
    context.Note(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
                 "a kernel's setup");
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = context.stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  context.Note(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...), "a launch");
}

}  // namespace berth::kernels::cuda
