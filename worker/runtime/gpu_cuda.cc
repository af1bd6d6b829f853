#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/upload.h"
#include "worker/runtime/gpu.h"
#include "worker/runtime/model_cost.h"
#include "worker/runtime/queued_executor.h"

namespace berth::runtime {
namespace {

constexpr int kDepth = 2;
// What products take fast: rows of whole vectors, sums of some length.
constexpr int kVectorElements = 8, kLeastHidden = 128;

kernels::CudaOpsOptions OpsOptions(const model::DecoderSpec& spec, const GpuOptions& options) {
  kernels::CudaOpsOptions ops{.device = options.device,
                              .generic_kernels = options.generic_kernels,
                              .batch_invariant = options.batch_invariant,
                              .alone = true,
                              .max_tokens = options.max_step_tokens,
                              .max_hidden = spec.hidden};
  for (const model::LayerSpec& layer : spec.layers) {
    const model::LatentSpec& latent = layer.attention.latent;
    const int64_t queries = int64_t{layer.attention.q_heads} * (latent.key_dim + layer.attention.head_dim - latent.rank);
    const int64_t heads = layer.attention.q_heads + 2 * layer.attention.kv_heads;
    const int64_t up = (layer.mlp.gated ? 2 : 1) * layer.mlp.intermediate;
    ops.max_product = std::max<int64_t>({ops.max_product, spec.hidden, heads * layer.attention.head_dim, up});
    if (latent.rank > 0) {
      ops.max_product = std::max<int64_t>(ops.max_product, layer.attention.head_dim + queries + latent.q_rank);
    }
    ops.max_adapter_rank = std::max<int64_t>(ops.max_adapter_rank, layer.image_rank);
    ops.moe.experts = std::max(ops.moe.experts, layer.moe.routing.experts);
    ops.moe.top_k = std::max(ops.moe.top_k, layer.moe.routing.top_k);
    ops.moe.intermediate = std::max<int64_t>(ops.moe.intermediate, layer.moe.intermediate);
  }
  return ops;
}

// Blocks of the KV pool in what all else has left of the device's memory; at least one sequence of full length fits.
absl::StatusOr<int> FindKvBlocks(const model::DecoderSpec& spec, const GpuOptions& options, int max_length) {
  BERTH_ASSIGN_OR_RETURN(const kernels::CudaMemory memory, kernels::GetCudaMemory(options.device));
  const size_t block_bytes = KvBlockBytes(spec, options.dtype);
  auto bytes = static_cast<size_t>(static_cast<double>(memory.free) * options.kv_share);
  if (options.kv_bytes > 0) bytes = std::min(bytes, options.kv_bytes);
  const size_t want = ((max_length + engine::kBlockTokens - 1) / engine::kBlockTokens + 1) * block_bytes;
  if (bytes < want) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the KV cache of one sequence of ", max_length, " tokens needs ", want, " bytes, and ", want - bytes,
        " of them are missing: ", bytes, " are allowed of the ", memory.free, " that are free on device ", options.device));
  }
  // One block more is reserved for padding.
  return static_cast<int>(std::min<size_t>(bytes / block_bytes - 1, INT32_MAX / engine::kBlockTokens));
}

}  // namespace

absl::Status CheckGpu(int device) { return kernels::CheckCudaDevice(device); }

absl::Status CheckGpuModel(const model::DecoderSpec& spec) {
  for (const model::LayerSpec& layer : spec.layers) {
    const model::AttentionSpec& attention = layer.attention;
    const int values = attention.latent.rank > 0 ? attention.latent.rank : attention.head_dim;
    if (attention.head_dim > kernels::kMaxKeyDim || values > kernels::kMaxValueDim) {
      return absl::UnimplementedError(absl::StrCat("attention with keys of ", attention.head_dim, " and values of ", values,
                                                   " (", spec.family, ") has no CUDA kernels, which take ", kernels::kMaxKeyDim,
                                                   " and ", kernels::kMaxValueDim, "; --device cpu runs it"));
    }
    if (layer.moe.routing.experts > kernels::kMaxExperts) {
      return absl::UnimplementedError(absl::StrCat(layer.moe.routing.experts, " experts (", spec.family,
                                                   ") have no CUDA kernels, which take ", kernels::kMaxExperts,
                                                   "; --device cpu runs it"));
    }
  }
  return absl::OkStatus();
}

std::string UntunedShapes(const model::DecoderSpec& spec) {
  std::set<std::string> shapes;
  for (const model::LayerSpec& layer : spec.layers) {
    const model::AttentionSpec& attention = layer.attention;
    const int rank = attention.latent.rank;
    if (kernels::HasTunedAttention(attention.head_dim, rank > 0 ? rank : attention.head_dim, rank > 0)) continue;
    shapes.insert(rank > 0 ? absl::StrCat("latents of ", rank, " and ", attention.head_dim - rank)
                           : absl::StrCat("heads of ", attention.head_dim));
  }
  if (spec.vocab % kVectorElements != 0) shapes.insert(absl::StrCat("a vocabulary of ", spec.vocab));
  if (spec.hidden < kLeastHidden) shapes.insert(absl::StrCat("a hidden size of ", spec.hidden));
  return absl::StrJoin(shapes, ", ");
}

absl::StatusOr<std::unique_ptr<kernels::WeightUploader>> MakeGpuUploader(const GpuOptions& options) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  BERTH_RETURN_IF_ERROR(CheckGpu(options.device));
  return kernels::MakeCudaWeightUploader({.device = options.device, .dtype = options.dtype});
}

absl::StatusOr<RunnerDevice> OpenGpu(const model::DecoderSpec& spec, const GpuOptions& options) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  RunnerDevice device;
  BERTH_ASSIGN_OR_RETURN(device.ops, kernels::MakeCudaOps(OpsOptions(spec, options)));
  device.memory = kernels::MakeCudaAllocator(options.device);
  device.staging = kernels::MakePinnedAllocator(options.device);
  return device;
}

absl::StatusOr<std::unique_ptr<engine::Executor>> MakeGpuExecutor(const RunnerModel& model, const GpuOptions& options) {
  BERTH_ASSIGN_OR_RETURN(const int max_length, SequenceLength(model.spec, options.session_len));
  BERTH_ASSIGN_OR_RETURN(RunnerDevice device, OpenGpu(model.spec, options));
  const RunnerOptions runner_options{.slots = options.slots,
                                     .dtype = options.dtype,
                                     .kv_dtype = options.dtype,
                                     .max_step_tokens = options.max_step_tokens,
                                     .max_length = max_length,
                                     .depth = kDepth,
                                     .last_queries = !options.batch_invariant};
  BERTH_ASSIGN_OR_RETURN(device.runner,
                         ModelRunner::Create(model, runner_options, *device.ops, {*device.memory, *device.staging}));
  BERTH_ASSIGN_OR_RETURN(const int kv_blocks, FindKvBlocks(model.spec, options, max_length));
  BERTH_RETURN_IF_ERROR(device.runner->ReserveKv(kv_blocks, *device.memory));
  if (options.recordings) BERTH_RETURN_IF_ERROR(device.runner->RecordDecodeSteps());
  BERTH_ASSIGN_OR_RETURN(const kernels::CudaPeak peak, kernels::GetCudaPeak(options.device));
  const engine::ExecutorLimits limits{.slots = options.slots,
                                      .kv_blocks = kv_blocks,
                                      .max_step_tokens = options.max_step_tokens,
                                      .max_length = max_length,
                                      .max_depth = kDepth,
                                      .vocab_size = model.spec.vocab,
                                      .cost = ModelCost(model.spec, options.dtype, {peak.memory_bytes, peak.flops})};
  return std::make_unique<QueuedExecutor>(limits, std::move(device));
}

}  // namespace berth::runtime
