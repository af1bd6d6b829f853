#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace berth::kernels::cuda {

inline constexpr size_t kHashAlignment = 16;

// Bytes in the device's memory, aligned to kHashAlignment.
struct HashRun {
  const std::byte* bytes = nullptr;
  int64_t size = 0;
};

// base::Hash64 of each run, on the current device; waits for it. A thread reads a run, so many of some MiB are fast and few
// large ones are not.
cudaError_t HashRuns(absl::Span<const HashRun> runs, absl::Span<uint64_t> hashes);

}  // namespace berth::kernels::cuda
