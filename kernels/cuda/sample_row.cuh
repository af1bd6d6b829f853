#pragma once

#include <climits>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/util/best.cuh"
#include "kernels/cuda/util/philox.cuh"
#include "kernels/ops.h"

// How one block draws from one row of logits. Included by sample.cu alone. Probabilities are summed as integers, which gives
// one result in any order.

namespace berth::kernels::cuda {

inline constexpr int kThreads = 1024;  // of a block that draws
inline constexpr float kMassOfBest = 0x1p40f;

__device__ inline uint64_t Plus(uint64_t a, uint64_t b) { return a + b; }

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

// Sum of the values of all lanes before this one, and in `total` of all.
__device__ inline uint64_t WarpScan(uint64_t value, uint64_t* total) {
  uint64_t sum = value;
  for (int offset = 1; offset < 32; offset *= 2) {
    const uint64_t other = __shfl_up_sync(~0u, sum, offset);
    if (threadIdx.x % 32 >= offset) sum += other;
  }
  *total = __shfl_sync(~0u, sum, 31);
  return sum - value;
}

// Sum of the values of all threads before this one.
__device__ inline uint64_t BlockScan(uint64_t value) {
  __shared__ uint64_t warps[32];
  uint64_t total;
  uint64_t before = WarpScan(value, &total);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = total;
  __syncthreads();
  for (int w = 0; w < threadIdx.x / 32; ++w) before += warps[w];
  return before;
}

// The best tokens down to one: those with a higher key, and those with its key and no higher id.
struct Prefix {
  uint32_t key = 0;
  int last_id = INT_MAX;

  __device__ bool Holds(float logit, int id) const {
    const uint32_t own = KeyOf(logit);
    return own > key || (own == key && id <= last_id);
  }
};

// Tokens by how far their logit lies below the best, in steps of 1 / kBucketsPerNat after the temperature. What lies beyond the
// last bucket has no mass.
inline constexpr int kBuckets = 2048;
inline constexpr float kBucketsPerNat = 64;
inline constexpr int kMaxCandidates = 2048;  // tokens of one bucket that are sorted

struct DrawMemory {
  unsigned long long mass[kBuckets];
  uint64_t candidate[kMaxCandidates];
  uint32_t count[kBuckets];
  int candidates, bucket, drawn;
  uint64_t before, warp_mass[kThreads / 32];
  uint64_t last;  // candidate of a prefix
};

struct Row {
  const float* logits;
  int vocab;
  bool vectors;  // may be read four at a time
  float highest;
  float per_temperature;
  DrawMemory& memory;  // shared by the block

  __device__ float Below(float logit) const { return (highest - logit) * per_temperature; }
  __device__ float Weight(float logit) const { return expf(-Below(logit)); }
  __device__ uint64_t Mass(float logit) const { return static_cast<uint64_t>(Weight(logit) * kMassOfBest); }
  __device__ int Bucket(float logit) const {
    return static_cast<int>(fminf(Below(logit) * kBucketsPerNat, static_cast<float>(kBuckets)));
  }

  // Calls visit(id, logit) for all ids from `begin` to `end`, a multiple of 4 and one or the end of the row, shared out among
  // `threads` threads of which this is `thread`; each sees its ids in order.
  template <typename Visit>
  __device__ void ForLogits(int begin, int end, int thread, int threads, Visit visit) const {
    if (!vectors) {
      for (int id = begin + thread; id < end; id += threads) visit(id, logits[id]);
      return;
    }
#pragma unroll 4
    for (int id = begin + 4 * thread; id < end; id += 4 * threads) {
      const float4 four = *reinterpret_cast<const float4*>(logits + id);
      visit(id, four.x);
      visit(id + 1, four.y);
      visit(id + 2, four.z);
      visit(id + 3, four.w);
    }
  }

  // Amount of all tokens of a prefix.
  template <typename Amount>
  __device__ uint64_t Sum(const Prefix& prefix, Amount amount) const {
    uint64_t sum = 0;
    ForLogits(0, vocab, threadIdx.x, kThreads, [&](int id, float logit) {
      if (prefix.Holds(logit, id)) sum += amount(logit);
    });
    return BlockReduce(sum, Plus);
  }

  // The shortest prefix whose amounts sum to `wanted`, by bisection: for rows in which thousands of tokens are almost equal.
  template <typename Amount>
  __device__ Prefix Bisect(uint64_t wanted, Amount amount) const {
    Prefix prefix;
    for (uint32_t step = 0x80000000u; step > 0; step /= 2) {
      if (Sum({prefix.key + step, INT_MAX}, amount) >= wanted) prefix.key += step;
    }
    int low = -1, high = vocab - 1;
    while (high - low > 1) {
      const int middle = low + (high - low) / 2;
      (Sum({prefix.key, middle}, amount) >= wanted ? high : low) = middle;
    }
    prefix.last_id = high;
    return prefix;
  }

  __device__ void FillBuckets() const {
    for (int i = threadIdx.x; i < kBuckets; i += kThreads) {
      memory.mass[i] = 0;
      memory.count[i] = 0;
    }
    __syncthreads();
    ForLogits(0, vocab, threadIdx.x, kThreads, [&](int, float logit) {
      const int bucket = Bucket(logit);
      if (bucket == kBuckets) return;
      atomicAdd(&memory.count[bucket], 1u);
      if (const uint64_t mass = Mass(logit); mass > 0) atomicAdd(&memory.mass[bucket], static_cast<unsigned long long>(mass));
    });
    __syncthreads();
  }

  // The shortest prefix whose amounts sum to `wanted`: first the bucket in which it ends, whose tokens are then sorted. All
  // tokens when those in buckets do not reach it, for the others have no mass. `of_bucket(i)` is bucket i's amount.
  template <typename OfBucket, typename Amount>
  __device__ Prefix Shortest(uint64_t wanted, OfBucket of_bucket, Amount amount) const {
    const uint64_t first = of_bucket(2 * threadIdx.x), second = of_bucket(2 * threadIdx.x + 1);
    const uint64_t before = BlockScan(first + second);
    if (threadIdx.x == 0) {
      memory.bucket = -1;
      memory.candidates = 0;
    }
    __syncthreads();
    if (before < wanted && wanted <= before + first + second) {
      const bool in_second = wanted > before + first;
      memory.bucket = 2 * threadIdx.x + in_second;
      memory.before = before + (in_second ? first : 0);
    }
    __syncthreads();
    const int bucket = memory.bucket;
    if (bucket < 0) return {};
    if (memory.count[bucket] > kMaxCandidates) return Bisect(wanted, amount);
    ForLogits(0, vocab, threadIdx.x, kThreads, [&](int id, float logit) {
      if (Bucket(logit) == bucket) memory.candidate[atomicAdd(&memory.candidates, 1)] = PackBest(logit, id);
    });
    SortCandidates();
    const auto amount_at = [&](int i) {
      return i < memory.candidates ? amount(LogitOf(memory.candidate[i] >> 32)) : uint64_t{0};
    };
    uint64_t reached = memory.before + BlockScan(amount_at(2 * threadIdx.x) + amount_at(2 * threadIdx.x + 1));
    for (int i = 2 * threadIdx.x; i < 2 * threadIdx.x + 2 && reached < wanted; ++i) {
      reached += amount_at(i);
      if (reached >= wanted) memory.last = memory.candidate[i];
    }
    __syncthreads();
    return {static_cast<uint32_t>(memory.last >> 32), IdOf(memory.last)};
  }

  // Best first: a bitonic sorting network (Batcher 1968).
  __device__ void SortCandidates() const {
    __syncthreads();
    int size = 2;
    while (size < memory.candidates) size *= 2;
    for (int i = memory.candidates + threadIdx.x; i < size; i += kThreads) memory.candidate[i] = 0;
    for (int run = 2; run <= size; run *= 2) {
      for (int distance = run / 2; distance > 0; distance /= 2) {
        __syncthreads();
        const int i = 2 * threadIdx.x - (threadIdx.x & (distance - 1));
        if (i + distance >= size) continue;
        uint64_t &a = memory.candidate[i], &b = memory.candidate[i + distance];
        if (((i & run) == 0) == (a < b)) {
          const uint64_t swap = a;
          a = b;
          b = swap;
        }
      }
    }
    __syncthreads();
  }

  __device__ Prefix Filter(const SlotSampling& sampling) const {
    Prefix prefix;
    const bool cuts = sampling.top_k > 0 && sampling.top_k < vocab;
    if (!cuts && sampling.top_p >= 1) return prefix;
    FillBuckets();
    const auto mass = [this](float logit) { return Mass(logit); };
    const auto bucket_mass = [this](int i) -> uint64_t { return memory.mass[i]; };
    if (cuts) {
      prefix = Shortest(
          sampling.top_k, [this](int i) -> uint64_t { return memory.count[i]; }, [](float) { return uint64_t{1}; });
    }
    if (sampling.top_p >= 1) return prefix;
    const uint64_t total =
        cuts ? Sum(prefix, mass) : BlockReduce(bucket_mass(2 * threadIdx.x) + bucket_mass(2 * threadIdx.x + 1), Plus);
    const auto target = static_cast<uint64_t>(ceil(static_cast<double>(sampling.top_p) * static_cast<double>(total)));
    return Shortest(target > 0 ? target : 1, bucket_mass, mass);
  }

  // The token in whose part of the kept tokens' mass, in order of id, the uniform number falls. Every warp sums a range of ids;
  // the one that holds the number walks its range again.
  __device__ int Draw(const SlotSampling& sampling, uint32_t position) const {
    const Prefix prefix = Filter(sampling);
    const auto mass_of = [&](int id, float logit) -> uint64_t {
      if (!prefix.Holds(logit, id) || Weight(logit) < sampling.min_p) return 0;
      return Mass(logit);
    };
    constexpr int kWarps = kThreads / 32, kStep = 4 * 32;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int range = (vocab + kWarps * kStep - 1) / (kWarps * kStep) * kStep;
    const int begin = warp * range, end = min(begin + range, vocab);
    uint64_t own = 0, warp_mass = 0, total = 0, before = 0;
    ForLogits(begin, end, lane, 32, [&](int id, float logit) { own += mass_of(id, logit); });
    WarpScan(own, &warp_mass);
    if (lane == 0) memory.warp_mass[warp] = warp_mass;
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) {
      before += w < warp ? memory.warp_mass[w] : 0;
      total += memory.warp_mass[w];
    }
    const double uniform = DrawUniform(sampling.seed, sampling.choice, position);
    const uint64_t target = min(static_cast<uint64_t>(uniform * static_cast<double>(total)), total - 1);
    if (before <= target && target < before + warp_mass) {
      for (int step = begin; step < end; step += kStep) {
        const int first = step + 4 * lane, last = min(first + 4, end);
        uint64_t sum = 0, step_mass;
        for (int id = first; id < last; ++id) sum += mass_of(id, logits[id]);
        uint64_t reached = before + WarpScan(sum, &step_mass);
        before += step_mass;
        if (target >= before) continue;
        for (int id = first; id < last && reached <= target; ++id) {
          reached += mass_of(id, logits[id]);
          if (reached > target) memory.drawn = id;
        }
        break;
      }
    }
    __syncthreads();
    return memory.drawn;
  }

  // The best token that ranks below (logit, id).
  __device__ int Best(float below_logit, int below_id) const {
    uint64_t best = PackBest(-INFINITY, INT_MAX);
    ForLogits(0, vocab, threadIdx.x, kThreads, [&](int id, float logit) {
      if (logit < below_logit || (logit == below_logit && id > below_id)) best = Larger(best, PackBest(logit, id));
    });
    return IdOf(BlockReduce(best, Larger));
  }
};

}  // namespace berth::kernels::cuda
