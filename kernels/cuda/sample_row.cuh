#pragma once

#include <climits>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/util/philox.cuh"
#include "kernels/ops.h"

// How one block draws from one row of logits. Included by sample.cu alone.

namespace berth::kernels::cuda {
inline constexpr int kThreads = 1024;          // of a block that draws
inline constexpr double kMassOfBest = 0x1p40;  // the best token's probability mass; integers sum alike in any order

// Order-preserving integers of floats.
__device__ inline uint32_t KeyOf(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline uint64_t PackBest(float logit, int id) {
  return static_cast<uint64_t>(KeyOf(logit)) << 32 | static_cast<uint32_t>(~id);
}
__device__ inline int IdOf(uint64_t best) { return ~static_cast<int>(best & 0xffffffffu); }

__device__ inline uint64_t Larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

// Reduction of one value per thread; every thread gets the result. `combine` is associative and commutative.
template <int kBlock = kThreads, typename V, typename Combine>
__device__ V BlockReduce(V value, Combine combine) {
  __shared__ V shared[32];
  for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(~0u, value, offset));
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  V result = shared[0];
  for (int w = 1; w < kBlock / 32; ++w) result = combine(result, shared[w]);
  return result;
}

// Sum of the values of all threads before this one.
__device__ inline uint64_t BlockScan(uint64_t value) {
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
    const auto target = min(
        static_cast<uint64_t>(DrawUniform(sampling.seed, sampling.choice, position) * static_cast<double>(total)), total - 1);
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
    return IdOf(BlockReduce(PackBest(best_logit, best_id), Larger));
  }
};

}  // namespace berth::kernels::cuda
