#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr size_t kMostBytes = 256 << 10;

__global__ void CopyPieces(uint4* to, const uint4* from, int pieces) {
  LetSuccessorStart();
  WaitForInputs();
  const int i = blockIdx.x * kThreads + threadIdx.x;
  // The host writes again what it wrote before, so nothing may be cached.
  if (i < pieces) to[i] = __ldcv(from + i);
}

bool IsPinned(const void* host) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, host) == cudaSuccess) return attributes.type == cudaMemoryTypeHost;
  cudaGetLastError();
  return false;
}

}  // namespace

bool CopySmall(Context& context, void* to, const void* from, size_t bytes, const void* host) {
  const auto aligned = [](auto value) { return value % sizeof(uint4) == 0; };
  if (bytes > kMostBytes || !aligned(bytes) || !aligned(reinterpret_cast<uintptr_t>(to)) ||
      !aligned(reinterpret_cast<uintptr_t>(from)) || !IsPinned(host)) {
    return false;
  }
  const auto pieces = static_cast<int>(bytes / sizeof(uint4));
  if (pieces > 0) {
    Launch(context, CopyPieces, (pieces + kThreads - 1) / kThreads, kThreads, 0, static_cast<uint4*>(to),
           static_cast<const uint4*>(from), pieces);
    context.serial = true;  // a step's kernels read ahead of their wait what was copied
  }
  return true;
}

}  // namespace berth::kernels::cuda
