#pragma once

#include <memory>

#include "kernels/ops.h"

namespace berth::kernels {

struct CpuOpsOptions {
  int threads = 1;  // the calling thread included
};

// The CPU backend: f32 activations, weights in any dtype, KV in f32, f16 or bf16. Every output of a product is summed over K in
// one fixed order whatever the number of rows or threads is, so batching, chunking and resuming never change a token.
std::unique_ptr<Ops> MakeCpuOps(const CpuOpsOptions& options);

}  // namespace berth::kernels
