#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "kernels/weight_uploader.h"

namespace berth::kernels {

struct CudaWeightUploaderOptions {
  int device = 0;
  DType dtype = DType::kBF16;            // of matrices: bf16 or f16
  int threads = 12;                      // that copy into pinned memory
  size_t chunk_bytes = size_t{4} << 20;  // of one copy; every thread pins two, which have to stay in the processor's caches
};

// Into the memory of one device, by a single allocation. Threads of the uploader copy from the host (a mapped file's pages, as
// a rule) into pinned memory; from there the device fetches, and converts on its own what is not in `dtype`
// yet; all of that overlaps. FAILED_PRECONDITION: the device cannot be used. Reserve's RESOURCE_EXHAUSTED names the bytes that
// are missing; a fault of the device is UNAVAILABLE and comes out of Finish at the latest, as does RESOURCE_EXHAUSTED when
// there is no memory for a chunk.
absl::StatusOr<std::unique_ptr<WeightUploader>> MakeCudaWeightUploader(const CudaWeightUploaderOptions& options);

}  // namespace berth::kernels
