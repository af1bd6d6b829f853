#include <cfloat>
#include <cmath>

#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/philox.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr double kMassOfBest = 0x1p40;  // the best token's probability mass; integers sum alike in any order

struct SampleParams {
  float* logits;
  int64_t logits_stride;
  int vocab, tokenizer_size;
  const int32_t *slot, *position;
  const SlotSampling* params;
  uint32_t* counts;
  int64_t counts_stride;
  const int32_t *edit_start, *edit_token;
  const float* edit_value;
  const uint32_t* bitmask;
  int64_t bitmask_stride;
  int32_t *token, *top_token;
  float *logprob, *top_logprob;
  int64_t top_stride;
};

// Order-preserving integers of floats.
__device__ uint32_t KeyOf(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Reduction of one value per thread; every thread gets the result. `combine` is associative and commutative.
template <typename V, typename Combine>
__device__ V BlockReduce(V value, Combine combine) {
  __shared__ V shared[32];
  for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(~0u, value, offset));
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  V result = shared[0];
  for (int w = 1; w < kThreads / 32; ++w) result = combine(result, shared[w]);
  return result;
}

// Sum of the values of all threads before this one.
__device__ uint64_t BlockScan(uint64_t value) {
  __shared__ uint64_t warps[32];
  uint64_t sum = value;
  for (int offset = 1; offset < 32; offset *= 2) {
    const uint64_t other = __shfl_up_sync(~0u, sum, offset);
    if (threadIdx.x % 32 >= offset) sum += other;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 31) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  for (int w = 0; w < threadIdx.x / 32; ++w) sum += warps[w];
  return sum - value;
}

// The best tokens: those with a key above `key`, and the first `ties` by id of those that have it.
struct Prefix {
  uint32_t key = 0;
  uint64_t ties = ~uint64_t{0};
};

// One row as one block sees it. Threads own contiguous ranges of ids, so that scans go by id.
struct Row {
  float* logits;
  int vocab;
  float highest;
  float temperature;

  __device__ int begin() const { return static_cast<int>(static_cast<int64_t>(vocab) * threadIdx.x / kThreads); }
  __device__ int end() const { return static_cast<int>(static_cast<int64_t>(vocab) * (threadIdx.x + 1) / kThreads); }
  __device__ double Weight(int id) const { return expf((logits[id] - highest) / temperature); }
  __device__ uint64_t Mass(int id) const { return static_cast<uint64_t>(Weight(id) * kMassOfBest); }

  // The shortest prefix of the best tokens whose amounts sum to `target`, which all tokens together reach. Radix search from
  // the keys' high byte down; tokens of one key have one amount.
  template <typename Amount>
  __device__ Prefix Shortest(uint64_t target, Amount amount) const {
    __shared__ unsigned long long histogram[256];
    __shared__ uint32_t digit;
    __shared__ uint64_t left;
    uint32_t prefix = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      __syncthreads();
      if (threadIdx.x < 256) histogram[threadIdx.x] = 0;
      __syncthreads();
      for (int id = threadIdx.x; id < vocab; id += kThreads) {
        const uint32_t key = KeyOf(logits[id]);
        if (shift == 24 || key >> (shift + 8) == prefix) {
          atomicAdd(&histogram[key >> shift & 255], static_cast<unsigned long long>(amount(id)));
        }
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        uint64_t wanted = target;
        int d = 255;
        while (d > 0 && histogram[d] < wanted) wanted -= histogram[d--];
        digit = d;
        left = wanted;
      }
      __syncthreads();
      prefix = prefix << 8 | digit;
      target = left;
    }
    uint64_t each = 0;
    for (int id = begin(); id < end(); ++id) {
      if (KeyOf(logits[id]) == prefix) each = amount(id);
    }
    each = BlockReduce(each, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
    return {prefix, each == 0 ? 1 : (target + each - 1) / each};
  }

  // Calls visit(id) for this thread's ids of the prefix, in order.
  template <typename Visit>
  __device__ void ForKept(Prefix prefix, Visit visit) const {
    uint64_t ties = 0;
    for (int id = begin(); id < end(); ++id) ties += KeyOf(logits[id]) == prefix.key;
    uint64_t rank = BlockScan(ties);
    for (int id = begin(); id < end(); ++id) {
      const uint32_t key = KeyOf(logits[id]);
      if (key > prefix.key || (key == prefix.key && rank++ < prefix.ties)) visit(id);
    }
  }

  __device__ uint64_t MassOf(Prefix prefix, float min_p) const {
    uint64_t mass = 0;
    ForKept(prefix, [&](int id) { mass += Weight(id) >= min_p ? Mass(id) : 0; });
    return mass;
  }

  // Walks the kept tokens by id until their mass passes the uniform number's share.
  __device__ int Draw(const SlotSampling& sampling, uint32_t position) const {
    __shared__ int drawn;
    const auto add = [](uint64_t a, uint64_t b) { return a + b; };
    Prefix prefix;
    if (sampling.top_k > 0 && sampling.top_k < vocab) prefix = Shortest(sampling.top_k, [](int) { return uint64_t{1}; });
    if (sampling.top_p < 1) {
      const uint64_t total = BlockReduce(MassOf(prefix, 0), add);
      const auto target = static_cast<uint64_t>(ceil(static_cast<double>(sampling.top_p) * static_cast<double>(total)));
      prefix = Shortest(target > 0 ? target : 1, [this](int id) { return Mass(id); });
    }
    const uint64_t own = MassOf(prefix, sampling.min_p), total = BlockReduce(own, add);
    const auto target =
        static_cast<uint64_t>(DrawUniform(sampling.seed, sampling.choice, position) * static_cast<double>(total));
    uint64_t before = BlockScan(own);
    const bool here = before <= target && target < before + own;
    ForKept(prefix, [&](int id) {
      if (!here || before > target) return;
      before += Weight(id) >= sampling.min_p ? Mass(id) : 0;
      if (before > target) drawn = id;
    });
    __syncthreads();
    return drawn;
  }

  // Highest logit and, among equals, the lowest id; `below` bounds it in (logit, id) order, to walk down the ranking.
  __device__ int Best(float below_logit, int below_id) const {
    float best_logit = -INFINITY;
    int best_id = INT_MAX;
    for (int id = threadIdx.x; id < vocab; id += kThreads) {
      const float logit = logits[id];
      const bool ranks_below = logit < below_logit || (logit == below_logit && id > below_id);
      if (ranks_below && (logit > best_logit || (logit == best_logit && id < best_id))) {
        best_logit = logit;
        best_id = id;
      }
    }
    const uint64_t packed = static_cast<uint64_t>(KeyOf(best_logit)) << 32 | static_cast<uint32_t>(~best_id);
    const uint64_t winner = BlockReduce(packed, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
    return ~static_cast<int>(winner & 0xffffffffu);
  }
};

__device__ void ApplyMasks(const SampleParams& params, int row, float* logits) {
  const uint32_t* mask = params.bitmask == nullptr ? nullptr : params.bitmask + row * params.bitmask_stride;
  for (int id = threadIdx.x; id < params.vocab; id += kThreads) {
    const bool allowed = id < params.tokenizer_size && (mask == nullptr || (mask[id / 32] >> (id % 32) & 1) != 0);
    logits[id] = allowed ? fminf(logits[id], FLT_MAX) : -INFINITY;
  }
  __syncthreads();
  if (params.edit_start == nullptr || threadIdx.x != 0) return;
  // In order and by one thread: a token may be edited twice.
  for (int e = params.edit_start[row]; e < params.edit_start[row + 1]; ++e) {
    float& logit = logits[params.edit_token[e]];
    if (logit != -INFINITY) logit = fminf(logit + params.edit_value[e], FLT_MAX);
  }
}

__device__ void ApplyPenalties(const SlotSampling& sampling, const uint32_t* counts, int vocab, float* logits) {
  if (sampling.repetition_penalty == 1 && sampling.presence_penalty == 0 && sampling.frequency_penalty == 0) return;
  for (int id = threadIdx.x; id < vocab; id += kThreads) {
    if (counts[id] == 0) continue;
    float logit = logits[id];
    logit = logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    const uint32_t generated = counts[id] & ~kTokenInPrompt;
    if (generated > 0) logit -= sampling.presence_penalty + sampling.frequency_penalty * static_cast<float>(generated);
    logits[id] = logit;
  }
}

// Log-probabilities at temperature 1.
__device__ void Report(const SampleParams& params, const Row& row, int r, int token, int best, int count) {
  uint64_t mass = 0;
  for (int id = threadIdx.x; id < row.vocab; id += kThreads) {
    mass += static_cast<uint64_t>(static_cast<double>(expf(row.logits[id] - row.highest)) * kMassOfBest);
  }
  mass = BlockReduce(mass, [](uint64_t a, uint64_t b) { return a + b; });
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

// One row per block.
__global__ void __launch_bounds__(kThreads) SampleRow(SampleParams params) {
  const int r = blockIdx.x;
  float* logits = params.logits + r * params.logits_stride;
  const SlotSampling sampling = params.params[params.slot[r]];
  uint32_t* counts = params.counts + params.slot[r] * params.counts_stride;
  int poisoned = 0;
  for (int id = threadIdx.x; id < params.vocab; id += kThreads) poisoned |= isnan(logits[id]);
  poisoned = BlockReduce(poisoned, [](int a, int b) { return a | b; });
  if (threadIdx.x == 0) {
    params.token[r] = -1;
    params.logprob[r] = 0;
  }
  if (poisoned) return;
  ApplyMasks(params, r, logits);
  __syncthreads();
  ApplyPenalties(sampling, counts, params.vocab, logits);
  __syncthreads();
  Row row{logits, params.vocab, 0, sampling.temperature};
  const int best = row.Best(INFINITY, -1);
  row.highest = logits[best];
  if (row.highest == -INFINITY) return;
  const int token = sampling.temperature > 0 ? row.Draw(sampling, params.position[r]) : best;
  if (sampling.logprobs >= 0) Report(params, row, r, token, best, sampling.logprobs);
  if (threadIdx.x == 0) {
    params.token[r] = token;
    ++counts[token];
  }
}

}  // namespace

void Sample(Context& context, const SampleArgs& args) {
  BERTH_CHECK(args.params.stride(0) == sizeof(SlotSampling)) << args.params.DebugString();
  const SampleParams params{
      .logits = args.logits.data<float>(),
      .logits_stride = args.logits.stride(0),
      .vocab = static_cast<int>(args.logits.dim(1)),
      .tokenizer_size = args.tokenizer_size,
      .slot = args.slot.data<int32_t>(),
      .position = args.position.data<int32_t>(),
      .params = static_cast<const SlotSampling*>(args.params.raw()),
      .counts = args.counts.data<uint32_t>(),
      .counts_stride = args.counts.stride(0),
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
  };
  SampleRow<<<args.logits.dim(0), kThreads, 0, context.stream>>>(params);
}

}  // namespace berth::kernels::cuda
