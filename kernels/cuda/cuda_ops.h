#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"

namespace berth::kernels {

// The largest mixture of experts. No experts: none.
struct MoeLimits {
  int experts = 0;
  int top_k = 0;
  int64_t intermediate = 0;  // of one expert
};

// What the kernels have shared memory for: the largest heads of attention, the most experts of a layer.
inline constexpr int kMaxKeyDim = 1024;
inline constexpr int kMaxValueDim = 512;
inline constexpr int kMaxExperts = 3072;

// Whether attention has kernels on tensor cores for such heads; else the kernel for all sizes takes them. Values are a place of
// their own, or the beginning of keys (KvLayer).
bool HasTunedAttention(int key_dim, int value_dim, bool values_in_keys);

struct CudaOpsOptions {
  int device = 0;
  bool generic_kernels = false;  // only those that run on every device
  bool batch_invariant = false;  // a row's results are the same bits whatever rows are beside it; slower
  // No other ops of this process work on the device. Then kernels whose blocks wait for each other need not be launched as
  // such, which costs a step of one row 4 %; the device's processes take turns, unless they share it by MPS.
  bool alone = false;
  int max_tokens = 0;       // rows of one step
  int64_t max_hidden = 0;   // widest residual stream
  int64_t max_product = 0;  // widest product before its activation: QKV, gate and up together, or what of latents and queries
  int64_t max_adapter_rank = 0;  // of adapters on rows of images; 0: none
  MoeLimits moe;
};

// The CUDA backend: activations, weights and KV in bf16 or f16 (all three alike), f32 accumulation and logits. It owns its
// stream, its cuBLASLt handle and all scratch memory, reserved here. FAILED_PRECONDITION names a missing or too old device or
// driver, RESOURCE_EXHAUSTED the memory that is missing.
absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(const CudaOpsOptions& options);

// Memory of one device, zeroed. RESOURCE_EXHAUSTED says how much was asked for and how much is free.
std::unique_ptr<Allocator> MakeCudaAllocator(int device);
// Pinned host memory, the staging memory of CudaOps: copies from and to it do not wait.
std::unique_ptr<Allocator> MakePinnedAllocator(int device);

}  // namespace berth::kernels
