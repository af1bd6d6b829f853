#include <algorithm>

#include "base/status.h"
#include "kernels/cuda/attend/decode_plan.cuh"
#include "kernels/cuda/attend/params.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels {
namespace cuda {
namespace {

constexpr int kMaxDecodeHeadDim = 256;
constexpr int64_t kAccessBytes = 16;

// Whether every row of every head starts on a 16-byte boundary.
bool IsAligned(const AttendArgs& args) {
  const auto aligned = [](const Tensor& tensor) {
    const int64_t element = Info(tensor.dtype()).block_bytes;
    return reinterpret_cast<uintptr_t>(tensor.raw()) % kAccessBytes == 0 && tensor.stride(0) * element % kAccessBytes == 0 &&
           tensor.stride(1) * element % kAccessBytes == 0;
  };
  return aligned(args.q) && aligned(args.out) && reinterpret_cast<uintptr_t>(args.kv.base) % kAccessBytes == 0 &&
         args.kv.block_stride % kAccessBytes == 0 && args.kv.head_stride % kAccessBytes == 0;
}

bool FitsSm90(const KvLayer& kv, int group) {
  const auto row_bytes = static_cast<int64_t>(RowBytes(kv.dtype, kv.key_dim));
  return kv.key_dim == 128 && group <= 128 && kv.block_stride % row_bytes == 0 && kv.head_stride % row_bytes == 0;
}

// Decode attention's parts of rows come first in `parts`; behind them lie those of latents, which need no zeros.
size_t DecodePartBytes(const Context& context) {
  return sizeof(DecodePart) * kMaxDecodeBlocks * context.multiprocessors * kDecodeHeads * (kMaxDecodeHeadDim / 4);
}

// Whether chunks cost decode attention less than a kernel of their own would take: in steps that a multiprocessor does
// meanwhile, kKernelSteps to begin and end behind decode rows where it cannot before their end, and six for five steps of the
// context, which it walks through one after the other. Blocks with larger heads are slower with chunks.
constexpr int64_t kKernelSteps = 30, kMaxBesideDim = 128;
bool FitsDecode(const Context& context, const AttendArgs& args, const AttendEntries& chunks, int group) {
  const int64_t pairs = args.batch.chunk_pairs;
  if (chunks.count == 0 || pairs == 0 || group > kDecodeHeads || args.window > 0) return false;
  const int shift = DecodeTileShift(group);
  const int64_t tiles = (chunks.rows >> shift) + chunks.count, steps = (pairs >> shift) / kKvBlockTokens + 2 * tiles;
  const bool beside = chunks.first > 0 && args.kv.key_dim <= kMaxBesideDim;
  const int64_t kernel_steps =
      (beside && !chunks.inputs_ready ? kKernelSteps : 0) + pairs / chunks.rows * 6 / (5 * kKvBlockTokens);
  return steps * args.kv.kv_heads <= kernel_steps * context.multiprocessors;
}

template <typename T>
void Dispatch(Context& context, const AttendArgs& args, const AttendParams& params) {
  const Batch& batch = args.batch;
  // The kernels of chunks give a row the same bits wherever it is in a chunk: its keys come in tiles cut by position, one after
  // the other, and those that it does not see add zeros.
  const int decode = context.batch_invariant ? 0 : batch.decode_sequences;
  const AttendEntries chunks{.first = decode,
                             .count = batch.sequences - decode,
                             .rows = batch.tokens - decode,
                             .inputs_ready = context.hopper && decode > kFewEntries};
  if (!context.batch_invariant && FitsLatent(context, params) && IsAligned(args))
    return AttendLatents<T>(context, params, decode, chunks);
  if (args.kv.values_in_keys || !HasTunedAttention(args.kv.key_dim, args.kv.value_dim, false) || !IsAligned(args)) {
    return AttendGeneric<T>(context, params);
  }
  if (!context.batch_invariant && FitsDecode(context, args, chunks, params.group)) {
    return AttendDecode<T>(context, params, batch.number, batch.sequences, /*chunks=*/true);
  }
  if (decode > 0) AttendDecode<T>(context, params, batch.number, decode, /*chunks=*/false);
  if (batch.tokens > decode) {
    if (context.hopper && FitsSm90(args.kv, params.group)) {
      AttendPrefillSm90<T>(context, params, chunks);
    } else {
      AttendPrefill<T>(context, params, chunks);
    }
  }
}

}  // namespace

std::pair<void*, bool> AttendResources::FindPlan(const DecodePlanKey& key) {
  size_t plan = std::find(plans.begin(), plans.end(), key) - plans.begin();
  const bool planned = key.batch != 0 && plan < plans.size();
  if (!planned) {
    plan = next_plan;
    plans[plan] = key;
    next_plan = (next_plan + 1) % plans.size();
  }
  return {static_cast<std::byte*>(starts.data()) + plan * (starts.bytes() / plans.size()), planned};
}

absl::Status ReserveAttend(Context& context, Allocator& allocator) {
  AttendResources& resources = context.attend;
  BERTH_ASSIGN_OR_RETURN(resources.parts, allocator.Allocate(DecodePartBytes(context) + LatentPartBytes(context)));
  const size_t blocks = kMaxDecodeBlocks * context.multiprocessors;
  BERTH_ASSIGN_OR_RETURN(resources.starts, allocator.Allocate(resources.plans.size() * blocks * kMaxDecodeStartBytes));
  BERTH_ASSIGN_OR_RETURN(resources.taken, allocator.Allocate(sizeof(int32_t)));
  return absl::OkStatus();
}

void* LatentParts(const Context& context) {
  return static_cast<std::byte*>(context.attend.parts.data()) + DecodePartBytes(context);
}

void Attend(Context& context, const AttendArgs& args) {
  BERTH_CHECK(args.kv.dtype == args.q.dtype())
      << "KV is " << Info(args.kv.dtype).name << ", want " << Info(args.q.dtype()).name;
  BERTH_CHECK(args.kv.key_dim <= kMaxKeyDim && args.kv.value_dim <= kMaxValueDim)
      << "keys of " << args.kv.key_dim << ", values of " << args.kv.value_dim;
  const AttendParams params{
      .q = args.q.raw(),
      .out = args.out.raw(),
      .q_stride = args.q.stride(0),
      .q_head_stride = args.q.stride(1),
      .out_stride = args.out.stride(0),
      .out_head_stride = args.out.stride(1),
      .position = args.batch.position.data<int32_t>(),
      .sequence_of = args.batch.sequence_of.data<int32_t>(),
      .query_start = args.batch.query_start.data<int32_t>(),
      .context_length = args.batch.context_length.data<int32_t>(),
      .block_table = args.batch.block_table.data<int32_t>(),
      .block_table_stride = args.batch.block_table.stride(0),
      .kv = args.kv,
      .rows = args.batch.tokens,
      .group = static_cast<int>(args.q.dim(1)) / args.kv.kv_heads,
      .scale = args.scale,
      .softcap = args.softcap,
      .window = args.window,
      .alibi_slope = static_cast<const float*>(args.alibi_slope.raw()),
  };
  if (args.q.dtype() == DType::kBF16) return Dispatch<__nv_bfloat16>(context, args, params);
  BERTH_CHECK(args.q.dtype() == DType::kF16) << "activations are " << Info(args.q.dtype()).name;
  Dispatch<__half>(context, args, params);
}

}  // namespace cuda

bool HasTunedAttention(int key_dim, int value_dim, bool values_in_keys) {
  if (values_in_keys) return key_dim == cuda::kLatentKeyDim && value_dim == cuda::kLatentValueDim;
  return key_dim == value_dim && cuda::IsTensorCoreHead(key_dim);
}

}  // namespace berth::kernels
