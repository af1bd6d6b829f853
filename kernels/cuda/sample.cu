#include <algorithm>
#include <cfloat>
#include <cmath>
#include <utility>

#include "kernels/cuda/sample_row.cuh"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"

namespace berth::kernels::cuda {
namespace {

// What one block found in its part of a row. `best` packs the key of the highest logit over the complement of its id, so that
// the largest is the best token, and of equal ones the lowest id.
struct RowPart {
  uint64_t best;
  uint64_t poisoned;
};
constexpr int kMaxParts = kSamplePartBytes / sizeof(RowPart);
constexpr int kPartThreads = 256;
constexpr int kWantedBlocks = 528;  // four for each SM of an H100
constexpr int kLeastPart = 4096;    // ids

struct SampleParams {
  float* logits;
  int64_t logits_stride;
  bool vectors;  // rows may be read four logits at a time
  int vocab, tokenizer_size;
  const int32_t *slot, *position, *target;  // target: null, or what is reported instead of a draw
  const SlotSampling* params;
  uint32_t* counts;
  int64_t counts_stride;
  int32_t* last_token;
  const int32_t *edit_start, *edit_token;
  const float* edit_value;
  const uint32_t* bitmask;
  int64_t bitmask_stride;
  int32_t *token, *top_token;
  float *logprob, *top_logprob;
  int64_t top_stride;
  RowPart* parts;
};

// Neighbouring logits, loaded at once.
template <int kWidth>
struct alignas(sizeof(float) * kWidth) Logits {
  float value[kWidth];
};

// A logit after the tokenizer's bound, the bitmask and the penalties. Infinite logits become finite, so that differences of
// logits are numbers; a banned token stays banned.
struct Adjustment {
  const SampleParams& params;
  const SlotSampling& sampling;
  const uint32_t *mask, *counts;  // null: none

  __device__ Adjustment(const SampleParams& params, const SlotSampling& sampling, int row)
      : params(params), sampling(sampling) {
    mask = params.bitmask == nullptr ? nullptr : params.bitmask + row * params.bitmask_stride;
    const bool none = sampling.repetition_penalty == 1 && sampling.presence_penalty == 0 && sampling.frequency_penalty == 0;
    counts = none || params.target != nullptr ? nullptr : params.counts + params.slot[row] * params.counts_stride;
  }
  __device__ float Allowed(int id, float logit) const {
    const bool allowed = id < params.tokenizer_size && (mask == nullptr || (mask[id / 32] >> (id % 32) & 1) != 0);
    return allowed ? fminf(logit, FLT_MAX) : -INFINITY;
  }
  __device__ float Penalised(int id, float logit) const {
    if (counts == nullptr || counts[id] == 0) return logit;
    logit = logit > 0 ? fminf(logit / sampling.repetition_penalty, FLT_MAX) : logit * sampling.repetition_penalty;
    const uint32_t generated = counts[id] & ~kTokenInPrompt;
    if (generated > 0) logit -= sampling.presence_penalty + sampling.frequency_penalty * static_cast<float>(generated);
    return logit;
  }
};

// Allowed logits plus the edits, for the ids from `begin` to `end` of one row. Returns whether any was a NaN.
__device__ bool ApplyEdits(const SampleParams& params, const Adjustment& adjust, int row, int begin, int end, float* logits) {
  bool poisoned = false;
  for (int id = begin + threadIdx.x; id < end; id += kPartThreads) {
    poisoned |= isnan(logits[id]);
    logits[id] = adjust.Allowed(id, logits[id]);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    // In order and by one thread: a token may be edited twice.
    for (int e = params.edit_start[row]; e < params.edit_start[row + 1]; ++e) {
      const int id = params.edit_token[e];
      if (id < begin || id >= end || logits[id] == -INFINITY) continue;
      logits[id] = fminf(logits[id] + params.edit_value[e], FLT_MAX);
    }
  }
  __syncthreads();
  return poisoned;
}

// Adjusts one part of a row in place and finds its best token. Grid: (parts, rows).
template <int kWidth>
__global__ void __launch_bounds__(kPartThreads) AdjustPart(SampleParams params) {
  LetSuccessorStart();
  constexpr int kUnroll = 4;
  const int row = blockIdx.y, part = (params.vocab + gridDim.x - 1) / gridDim.x;
  const int size = (part + kWidth - 1) / kWidth * kWidth, begin = blockIdx.x * size, end = min(begin + size, params.vocab);
  float* logits = params.logits + row * params.logits_stride;
  const SlotSampling sampling = params.params[params.slot[row]];
  const Adjustment adjust(params, sampling, row);
  WaitForInputs();
  bool poisoned = false;
  if (params.edit_start != nullptr) poisoned = ApplyEdits(params, adjust, row, begin, end, logits);
  float best_logit = -INFINITY;
  int best_id = 0;
  for (int first = begin + threadIdx.x * kWidth; first < end; first += kUnroll * kPartThreads * kWidth) {
    Logits<kWidth> vectors[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int id = first + u * kPartThreads * kWidth;
      if (id < end) vectors[u] = *reinterpret_cast<const Logits<kWidth>*>(logits + id);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int id = first + u * kPartThreads * kWidth;
      if (id >= end) break;
      bool changed = false;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float logit = vectors[u].value[i], adjusted = adjust.Penalised(id + i, adjust.Allowed(id + i, logit));
        poisoned |= isnan(logit);
        changed |= adjusted != logit;
        vectors[u].value[i] = adjusted;
        if (adjusted > best_logit) best_logit = adjusted, best_id = id + i;  // ids rise, so the lowest of equals stays
      }
      if (changed) *reinterpret_cast<Logits<kWidth>*>(logits + id) = vectors[u];
    }
  }
  const uint64_t best = BlockReduce<kPartThreads>(PackBest(best_logit, best_id), Larger);
  const int any = __syncthreads_or(poisoned);
  if (threadIdx.x == 0) params.parts[row * kMaxParts + blockIdx.x] = {best, static_cast<uint64_t>(any)};
}

// Log-probabilities at temperature 1.
__device__ void Report(const SampleParams& params, const Row& row, int r, int token, int best, int count) {
  uint64_t mass = 0;
  row.ForLogits(0, row.vocab, threadIdx.x, kThreads,
                [&](int, float logit) { mass += static_cast<uint64_t>(expf(logit - row.highest) * kMassOfBest); });
  mass = BlockReduce(mass, Plus);
  const double log_total = row.highest + log(static_cast<double>(mass) / kMassOfBest);
  if (threadIdx.x == 0) params.logprob[r] = static_cast<float>(row.logits[token] - log_total);
  if (params.top_token == nullptr) return;
  int id = best;
  for (int i = 0; i < kMaxLogprobs; ++i) {
    const bool exists = i < count && id >= 0 && id < row.vocab && row.logits[id] != -INFINITY;
    if (threadIdx.x == 0) {
      params.top_token[r * params.top_stride + i] = exists ? id : -1;
      params.top_logprob[r * params.top_stride + i] = exists ? static_cast<float>(row.logits[id] - log_total) : -INFINITY;
    }
    if (exists && i + 1 < count) {
      id = row.Best(row.logits[id], id);
    } else {
      id = -1;
    }
  }
}

__device__ void Finish(const SampleParams& params, int r, int token) {
  const int slot = params.slot[r];
  params.token[r] = token;
  if (params.target != nullptr) return;
  if (token >= 0) atomicAdd(&params.counts[slot * params.counts_stride + token], 1u);  // whose result nobody waits for
  if (params.last_token != nullptr) params.last_token[slot] = max(token, 0);
}

__device__ void ReportNothing(const SampleParams& params, int r) {
  if (threadIdx.x == 0) params.logprob[r] = 0;
  if (params.top_token == nullptr || threadIdx.x >= kMaxLogprobs) return;
  params.top_token[r * params.top_stride + threadIdx.x] = -1;
  params.top_logprob[r * params.top_stride + threadIdx.x] = -INFINITY;
}

// One row per block: the best token out of its parts, or a draw.
__global__ void __launch_bounds__(kThreads) DrawRow(SampleParams params, int parts) {
  __shared__ DrawMemory memory;
  LetSuccessorStart();
  const int r = blockIdx.x, lane = threadIdx.x % 32;
  const SlotSampling sampling = params.params[params.slot[r]];
  WaitForInputs();
  static_assert(kMaxParts <= 32);
  const RowPart part = lane < parts ? params.parts[r * kMaxParts + lane] : RowPart{};
  uint64_t best = part.best;
  for (int offset = 16; offset > 0; offset /= 2) best = Larger(best, __shfl_xor_sync(~0u, best, offset));
  const bool poisoned = __any_sync(~0u, part.poisoned != 0);
  const float* logits = params.logits + r * params.logits_stride;
  const Row row{logits,
                params.vocab,
                params.vectors,
                LogitOf(static_cast<uint32_t>(best >> 32)),
                fminf(1 / sampling.temperature, FLT_MAX),
                memory};
  const bool nothing = poisoned || row.highest == -INFINITY;
  if (nothing || sampling.logprobs < 0) ReportNothing(params, r);
  if (nothing) {
    if (threadIdx.x == 0) Finish(params, r, -1);
    return;
  }
  int token = IdOf(best);
  if (params.target != nullptr) {
    token = params.target[r];
  } else if (sampling.temperature > 0) {
    token = row.Draw(sampling, params.position[r]);
  }
  if (sampling.logprobs >= 0) Report(params, row, r, token, IdOf(best), sampling.logprobs);
  if (threadIdx.x == 0) Finish(params, r, token);
}

// A warp per row, whose best token the head has found.
__global__ void TakeBest(SampleParams params, uint64_t* found) {
  LetSuccessorStart();
  const int r = blockIdx.x;
  WaitForInputs();
  const uint64_t best = found[r];
  ReportNothing(params, r);
  __syncwarp();
  if (threadIdx.x > 0) return;
  found[r] = 0;
  const bool nothing = best == kPoisonedBest || LogitOf(static_cast<uint32_t>(best >> 32)) == -INFINITY;
  Finish(params, r, nothing ? -1 : IdOf(best));
}

}  // namespace

void Sample(Context& context, const SampleArgs& args) {
  BERTH_CHECK(args.params.stride(0) == sizeof(SlotSampling)) << args.params.DebugString();
  const SampleParams params{
      .logits = args.logits.data<float>(),
      .logits_stride = args.logits.stride(0),
      .vectors = args.logits.dim(1) % 4 == 0 && args.logits.stride(0) % 4 == 0 &&
                 reinterpret_cast<uintptr_t>(args.logits.raw()) % 16 == 0,
      .vocab = static_cast<int>(args.logits.dim(1)),
      .tokenizer_size = args.tokenizer_size,
      .slot = args.slot.data<int32_t>(),
      .position = static_cast<const int32_t*>(args.position.raw()),
      .target = static_cast<const int32_t*>(args.target.raw()),
      .params = static_cast<const SlotSampling*>(args.params.raw()),
      .counts = args.counts.data<uint32_t>(),
      .counts_stride = args.counts.stride(0),
      .last_token = static_cast<int32_t*>(args.last_token.raw()),
      .edit_start = static_cast<const int32_t*>(args.edit_start.raw()),
      .edit_token = static_cast<const int32_t*>(args.edit_token.raw()),
      .edit_value = static_cast<const float*>(args.edit_value.raw()),
      .bitmask = static_cast<const uint32_t*>(args.bitmask.raw()),
      .bitmask_stride = args.bitmask.empty() ? 0 : args.bitmask.stride(0),
      .token = args.token.data<int32_t>(),
      .top_token = static_cast<int32_t*>(args.top_token.raw()),
      .logprob = args.logprob.data<float>(),
      .top_logprob = static_cast<float*>(args.top_logprob.raw()),
      .top_stride = args.top_token.empty() ? 0 : args.top_token.stride(0),
      .parts = static_cast<RowPart*>(context.sample_parts.data()),
  };
  const int rows = static_cast<int>(args.logits.dim(0));
  BERTH_CHECK(rows * kSamplePartBytes <= context.sample_parts.bytes()) << rows << " rows";
  if (std::exchange(context.best_found, false)) {
    BERTH_CHECK(args.greedy) << "the head left no logits";
    return Launch(context, TakeBest, rows, 32, 0, params, static_cast<uint64_t*>(context.best.data()));
  }
  const int parts = std::clamp(std::min(kWantedBlocks / rows, params.vocab / kLeastPart), 1, kMaxParts);
  Launch(context, params.vectors ? AdjustPart<4> : AdjustPart<1>, dim3(parts, rows), kPartThreads, 0, params);
  Launch(context, DrawRow, rows, kThreads, 0, params, parts);
}

}  // namespace berth::kernels::cuda
