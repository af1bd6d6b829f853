#pragma once

#include <memory>

#include "kernels/dtype.h"
#include "kernels/weight_uploader.h"

namespace berth::kernels {

struct CpuWeightUploaderOptions {
  DType dtype = DType::kF32;  // of matrices: f32, f16 or bf16
  int threads = 1;            // the calling thread included
};

// Into host memory. Every call has done its work when it returns.
std::unique_ptr<WeightUploader> MakeCpuWeightUploader(const CpuWeightUploaderOptions& options);

}  // namespace berth::kernels
