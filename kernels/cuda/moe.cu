#include <algorithm>

#include "base/status.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/activate.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/norm.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kSortThreads = 256;
// A block of a grouped product: kTileRows visits of one expert times kTileColumns of its outputs, kTileDepth of K at a time.
constexpr int kTileRows = 16, kTileColumns = 64, kTileDepth = 32;
constexpr int kProductThreads = 256;

// One visit is a token at one of its experts. A token's visits are in the order of its experts; `sorted` lists all visits by
// expert, and those of one expert by token.
struct Visits {
  int32_t* expert;  // [tokens * top_k]
  float* weight;    // [tokens * top_k]
  int32_t* sorted;  // [tokens * top_k]
  int32_t* start;   // [experts + 1] of each expert's visits in `sorted`
  int tokens, top_k, experts;
};

// The best of [begin, end), the lowest among equals; all lanes get it.
__device__ int WarpBest(const float* rank, int begin, int end) {
  int best = begin;
  for (int e = begin + static_cast<int>(threadIdx.x); e < end; e += kWarp) {
    if (rank[e] > rank[best] || (rank[e] == rank[best] && e < best)) best = e;
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const int other = __shfl_xor_sync(~0u, best, offset);
    if (rank[other] > rank[best] || (rank[other] == rank[best] && other < best)) best = other;
  }
  return best;
}

// Logits become scores in [0, 1]; `rank` is what experts are chosen by.
__device__ void Score(const Routing& routing, const float* logits, const float* bias, float* score, float* rank) {
  float highest = -INFINITY, sum = 0;
  for (int e = threadIdx.x; e < routing.experts; e += kWarp) highest = fmaxf(highest, logits[e]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
  const bool softmax = routing.score == RouterScore::kSoftmax;
  for (int e = threadIdx.x; e < routing.experts; e += kWarp) {
    score[e] = softmax ? expf(logits[e] - highest) : 1 / (1 + expf(-logits[e]));
    sum += score[e];
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
  for (int e = threadIdx.x; e < routing.experts; e += kWarp) {
    if (softmax) score[e] /= sum;
    rank[e] = bias == nullptr ? score[e] : score[e] + bias[e];
  }
  __syncwarp();
}

// Takes the experts of all but the best groups out of the choice. `group` has room for the groups' ranks, `saved` for a group.
__device__ void DropGroups(const Routing& routing, float* rank, float* group, float* saved) {
  const int size = routing.experts / routing.groups;
  for (int g = 0; g < routing.groups; ++g) {
    for (int e = threadIdx.x; e < size; e += kWarp) saved[e] = rank[g * size + e];
    __syncwarp();
    float sum = 0;
    for (int i = 0; i < routing.group_best; ++i) {
      const int best = WarpBest(saved, 0, size);
      sum += saved[best];
      __syncwarp();
      if (threadIdx.x == 0) saved[best] = -INFINITY;
      __syncwarp();
    }
    if (threadIdx.x == 0) group[g] = sum;
  }
  __syncwarp();
  for (int i = 0; i < routing.top_groups; ++i) {
    const int best = WarpBest(group, 0, routing.groups);
    __syncwarp();
    if (threadIdx.x == 0) group[best] = -INFINITY;
    __syncwarp();
  }
  for (int e = threadIdx.x; e < routing.experts; e += kWarp) {
    if (group[e / size] != -INFINITY) rank[e] = -INFINITY;
  }
  __syncwarp();
}

// Grid: tokens, one warp each. Shared: 4 * experts floats.
__global__ void ChooseExperts(Routing routing, const float* logits, const float* bias, Visits visits) {
  extern __shared__ float shared[];
  LetSuccessorStart();
  WaitForInputs();
  const int token = blockIdx.x, experts = routing.experts;
  float *score = shared, *rank = score + experts, *group = rank + experts, *saved = group + experts;
  Score(routing, logits + static_cast<int64_t>(token) * experts, bias, score, rank);
  if (routing.top_groups < routing.groups) DropGroups(routing, rank, group, saved);
  float* const chosen = group;
  for (int e = threadIdx.x; e < experts; e += kWarp) chosen[e] = 0;
  float sum = 0;
  for (int i = 0; i < routing.top_k; ++i) {
    const int best = WarpBest(rank, 0, experts);
    sum += score[best];
    __syncwarp();
    if (threadIdx.x == 0) {
      rank[best] = -INFINITY;
      chosen[best] = 1;
    }
    __syncwarp();
  }
  if (threadIdx.x != 0) return;
  const float scale = routing.scale / (routing.renormalize ? sum : 1);
  int visit = token * routing.top_k;
  for (int e = 0; e < experts; ++e) {
    if (chosen[e] == 0) continue;
    visits.expert[visit] = e;
    visits.weight[visit++] = score[e] * scale;
  }
}

// One block. Thread e takes expert e, e + kSortThreads, …
__global__ void SortVisits(Visits visits) {
  extern __shared__ int32_t count[];
  LetSuccessorStart();
  WaitForInputs();
  const int all = visits.tokens * visits.top_k;
  for (int e = threadIdx.x; e < visits.experts; e += kSortThreads) {
    int own = 0;
    for (int v = 0; v < all; ++v) own += visits.expert[v] == e;
    count[e] = own;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < visits.experts; e += kSortThreads) {
    int at = 0;
    for (int before = 0; before < e; ++before) at += count[before];
    visits.start[e] = at;
    if (e == visits.experts - 1) visits.start[visits.experts] = all;
    for (int v = 0; v < all; ++v) {
      if (visits.expert[v] == e) visits.sorted[at++] = v;
    }
  }
}

// Rows of weights that a grouped product multiplies with: expert e's are rows [e n, (e + 1) n), and for gated ones the rows of
// up lie `up_rows` rows further on.
template <typename T>
struct ExpertWeights {
  const T* data;
  int64_t n, k, up_rows;
};

// out[visit] = (gate · in) → act → times (up · in), or gate · in alone. `in` has a row per token, or per visit when !gated.
// Every sum runs over K in order. Grid: (columns, experts, rows).
template <typename T, typename Out, bool kGated>
__global__ void __launch_bounds__(kProductThreads)
    GroupedProduct(Visits visits, ExpertWeights<T> weights, Activation activation, const T* in, Out* out) {
  __shared__ float x[kTileRows][kTileDepth + 1];
  __shared__ float gate[kTileColumns][kTileDepth + 1], up[kGated ? kTileColumns : 1][kTileDepth + 1];
  LetSuccessorStart();
  WaitForInputs();
  const int expert = blockIdx.y, first = visits.start[expert] + blockIdx.z * kTileRows;
  const int rows = min(kTileRows, visits.start[expert + 1] - first);
  if (rows <= 0) return;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kTileColumns;
  // A thread has one column and every fourth row.
  const int own_column = threadIdx.x % kTileColumns, own_row = threadIdx.x / kTileColumns;
  constexpr int kOwnRows = kTileRows * kTileColumns / kProductThreads, kRowStep = kTileRows / kOwnRows;
  float sum[kOwnRows] = {}, up_sum[kOwnRows] = {};
  for (int64_t k = 0; k < weights.k; k += kTileDepth) {
    const int lane = threadIdx.x % kTileDepth;
    const bool inside = k + lane < weights.k;
    for (int r = threadIdx.x / kTileDepth; r < kTileRows; r += kProductThreads / kTileDepth) {
      const int visit = r < rows ? visits.sorted[first + r] : 0;
      const int64_t row = kGated ? visit / visits.top_k : visit;
      x[r][lane] = inside && r < rows ? ToFloat(in[row * weights.k + k + lane]) : 0.f;
    }
    for (int c = threadIdx.x / kTileDepth; c < kTileColumns; c += kProductThreads / kTileDepth) {
      const bool real = inside && column + c < weights.n;
      const T* from = weights.data + (expert * weights.n + column + c) * weights.k + k + lane;
      gate[c][lane] = real ? ToFloat(from[0]) : 0.f;
      if constexpr (kGated) up[c][lane] = real ? ToFloat(from[weights.up_rows * weights.k]) : 0.f;
    }
    __syncthreads();
    for (int i = 0; i < kTileDepth; ++i) {
#pragma unroll
      for (int r = 0; r < kOwnRows; ++r) {
        sum[r] += x[own_row + r * kRowStep][i] * gate[own_column][i];
        if constexpr (kGated) up_sum[r] += x[own_row + r * kRowStep][i] * up[own_column][i];
      }
    }
    __syncthreads();
  }
  if (column + own_column >= weights.n) return;
  for (int r = 0; r < kOwnRows; ++r) {
    const int row = own_row + r * kRowStep;
    if (row >= rows) continue;
    const float value = kGated ? Activate(activation, sum[r]) * up_sum[r] : sum[r];
    out[visits.sorted[first + row] * weights.n + column + own_column] = FromFloat<Out>(value);
  }
}

// residual[token] += Σ weight · result over the token's visits. Grid: (columns, tokens).
template <typename T>
__global__ void AddVisits(Visits visits, const float* result, int64_t hidden, T* residual, int64_t stride) {
  LetSuccessorStart();
  WaitForInputs();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, token = blockIdx.y;
  if (i >= hidden) return;
  float sum = ToFloat(residual[token * stride + i]);
  for (int64_t visit = token * visits.top_k; visit < (token + 1) * visits.top_k; ++visit) {
    sum += visits.weight[visit] * result[visit * hidden + i];
  }
  residual[token * stride + i] = FromFloat<T>(sum);
}

template <typename T>
void RunExperts(Context& context, const MoeArgs& args, const Visits& visits, const Tensor& normed) {
  const int64_t hidden = args.residual.dim(1), inter = args.down.k, experts = args.routing.experts;
  const unsigned row_tiles = (visits.tokens + kTileRows - 1) / kTileRows;  // a token visits an expert once
  const auto grid = [&](int64_t columns) { return dim3((columns + kTileColumns - 1) / kTileColumns, experts, row_tiles); };
  const auto weights = [](const LinearWeight& weight) {
    BERTH_CHECK(weight.segments.size() == 1) << "experts in " << weight.segments.size() << " pieces";
    return reinterpret_cast<const T*>(weight.segments.front().data);
  };
  T* const between = static_cast<T*>(context.moe.between.data());
  float* const result = static_cast<float*>(context.moe.result.data());
  Launch(context, GroupedProduct<T, T, true>, grid(inter), kProductThreads, 0, visits,
         ExpertWeights<T>{weights(args.up), inter, hidden, experts * inter}, args.activation,
         static_cast<const T*>(normed.raw()), between);
  Launch(context, GroupedProduct<T, float, false>, grid(hidden), kProductThreads, 0, visits,
         ExpertWeights<T>{weights(args.down), hidden, inter, 0}, args.activation, static_cast<const T*>(between), result);
  Launch(context, AddVisits<T>, dim3((hidden + 255) / 256, visits.tokens), 256, 0, visits, static_cast<const float*>(result),
         hidden, static_cast<T*>(args.residual.raw()), args.residual.stride(0));
}

}  // namespace

absl::Status ReserveMoe(Context& context, const MoeLimits& limits, int64_t max_tokens, int64_t max_hidden,
                        Allocator& allocator) {
  if (limits.experts == 0) return absl::OkStatus();
  const size_t visits = max_tokens * limits.top_k;
  BERTH_ASSIGN_OR_RETURN(context.moe.visits, allocator.Allocate((3 * visits + limits.experts + 1) * sizeof(int32_t)));
  BERTH_ASSIGN_OR_RETURN(context.moe.scores, allocator.Allocate(max_tokens * limits.experts * sizeof(float)));
  BERTH_ASSIGN_OR_RETURN(context.moe.between, allocator.Allocate(visits * limits.intermediate * sizeof(uint16_t)));
  BERTH_ASSIGN_OR_RETURN(context.moe.result, allocator.Allocate(visits * max_hidden * sizeof(float)));
  return absl::OkStatus();
}

void Moe(Context& context, const MoeArgs& args) {
  const int64_t tokens = args.residual.dim(0), hidden = args.residual.dim(1), experts = args.routing.experts;
  const int64_t all = tokens * args.routing.top_k;
  const Tensor normed(context.normed.data(), args.residual.dtype(), {tokens, hidden});
  const Tensor scores(context.moe.scores.data(), DType::kF32, {tokens, experts});
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  Linear(context, normed, args.router, 0, scores);
  auto* const memory = static_cast<int32_t*>(context.moe.visits.data());
  const Visits visits{.expert = memory,
                      .weight = reinterpret_cast<float*>(memory + all),
                      .sorted = memory + 2 * all,
                      .start = memory + 3 * all,
                      .tokens = static_cast<int>(tokens),
                      .top_k = args.routing.top_k,
                      .experts = static_cast<int>(experts)};
  Launch(context, ChooseExperts, tokens, kWarp, 4 * experts * sizeof(float), args.routing,
         static_cast<const float*>(scores.raw()), static_cast<const float*>(args.router_bias.raw()), visits);
  // Whole vectors: the compiler reads four counts at a time.
  Launch(context, SortVisits, 1, kSortThreads, (experts + 3) / 4 * 4 * sizeof(int32_t), visits);
  WithActivation(args.residual.dtype(), [&](auto type) { RunExperts<decltype(type)>(context, args, visits, normed); });
}

}  // namespace berth::kernels::cuda
