#pragma once

#include <cuda.h>

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/gated/gated_params.h"
#include "kernels/cuda/gated/gated_plan.h"
#include "kernels/cuda/util/activate.cuh"
#include "kernels/cuda/util/best.cuh"
#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/cluster.cuh"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/numeric.cuh"
#include "kernels/cuda/util/products_sm90.cuh"
#include "kernels/cuda/util/sm90.cuh"

namespace berth::kernels::cuda::gated {

// How many neighbouring token units are multiplied with a part of the weight before the next: their tokens stay in the cache.
inline constexpr int kUnitsOfGroup = 8;

#ifdef BERTH_HAS_SM90A

// One tile per block at a time: kGroups groups of four warps have 64 tokens each, the M of their products, and kWidth rows of
// the weight, half of them gates, half the up rows of the same outputs, so that a thread holds both. One thread issues the
// copies of stages, the weight's first before the grid dependency wait. The two blocks of a cluster share tokens or weight.
template <typename T, int kGroups, int kWidth, Shared kShared, Result kResult>
class Walk {
 public:
  static constexpr int kStages = Stages(kWidth, kGroups), kHalf = kWidth / 2;
  static constexpr int kTileTokens = kGroups * kGroupTokens;
  static constexpr int kTokenBytes = kTileTokens * kStep * 2, kWeightBytes = kWidth * kStep * 2;
  static constexpr uint16_t kBoth = (1 << kPair) - 1;

  __device__ Walk(const GatedParams& params, std::byte* shared)
      : params_(params), stages_(shared), rank_(ClusterRank()), cluster_(blockIdx.x / kPair), clusters_(gridDim.x / kPair) {
    full_ = reinterpret_cast<Barrier*>(shared + kStages * StageBytes(kWidth, kGroups));
    empty_ = full_ + kStages;
  }

  __device__ void InitBarriers() {
    PrefetchMap(params_.token_count < kTileTokens ? &params_.tail : &params_.tokens);
    PrefetchMap(&params_.weight);
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(full_ + i, 1);
      InitBarrier(empty_ + i, kPair * kGroups * 4);
    }
    PublishBarriers();
  }

  // One thread.
  __device__ void Produce() {
    const uint64_t weight_policy = params_.once ? StreamingPolicy() : NormalPolicy(), token_policy = NormalPolicy();
    Cursor weight = First(), tokens = weight;
    for (int i = 0; i < kStages && weight.unit < params_.units; ++i, Advance(weight)) CopyWeight(weight, weight_policy);
    WaitForInputs();
    for (int i = 0; i < kStages && tokens.unit < params_.units; ++i, Advance(tokens)) CopyTokens(tokens, token_policy);
    for (; weight.unit < params_.units; Advance(weight)) {
      WaitFor(empty_ + weight.stage, weight.parity ^ 1);
      CopyWeight(weight, weight_policy);
      CopyTokens(weight, token_policy);
    }
  }

  // A group of four warps.
  __device__ void Consume(int group) {
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const uint32_t other = AddressAt(SharedAddress(empty_), rank_ ^ 1), base = SharedAddress(stages_);
    const uint64_t first_tokens = sm90::Descriptor(base + group * kGroupTokens * kStep * 2);
    const uint64_t first_weight = sm90::Descriptor(base + kTokenBytes);
    const auto release = [&](int stage) {
      if (lane != 0) return;
      Arrive(empty_ + stage);
      ArriveAt(other + stage * sizeof(Barrier));
    };
    int stage = 0;
    uint32_t parity = 0;
    const auto next = [&] {
      if (++stage < kStages) return;
      stage = 0;
      parity ^= 1;
    };
    float c[kWidth / 8][4];
    if (params_.once) {
      sm90::ClearRows(stages_ + group * kGroupTokens * kStep * 2, kStages, StageBytes(kWidth, kGroups),
                      TileOf(cluster_).rows - group * kGroupTokens, params_.steps, 1 + group);
    }
    WaitForInputs();
    for (int wave = 0, unit; (unit = UnitOf(wave)) < params_.units; ++wave) {
      const Tile tile = TileOf(unit);
      const int token = tile.token + group * kGroupTokens;
      if (group >= tile.groups || token >= params_.token_count || tile.row >= params_.inter) {
        for (int step = 0; step < params_.steps; ++step, next()) {
          WaitFor(full_ + stage, parity);
          release(stage);
        }
        continue;
      }
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0;
      int before = 0;
      for (int step = 0; step < params_.steps; ++step) {
        WaitFor(full_ + stage, parity);
        const uint32_t at = stage * StageBytes(kWidth, kGroups);
        sm90::FenceProducts();
#pragma unroll
        for (int k = 0; k < kStep / 16; ++k) {
          Multiply(c, sm90::Behind(first_tokens, at + 32 * k), sm90::Behind(first_weight, at + 32 * k));
        }
        sm90::CommitProducts();
        sm90::WaitForProducts<1>();
        if (step > 0) release(before);
        before = stage;
        next();
      }
      sm90::WaitForProducts<0>();
      sm90::Settle(c);
      release(before);
      const int64_t own = token + warp * 16 + lane / 4;
      if constexpr (kResult == Result::kBest) {
        if (tile.row + kHalf > params_.inter || params_.inter + tile.row + kHalf > params_.ids) Exclude(c, tile.row, lane % 4);
        FindBest(c, own, tile.row, lane % 4);
      } else {
        if (params_.bias != nullptr) AddBias(c, tile.row, lane % 4);
        Finish(c, own, tile.row, lane % 4);
      }
    }
  }

 private:
  struct Tile {
    int token, row;  // its first token and gate
    int groups;      // that multiply: kGroups, or one less
    int rows;        // of its tokens that are copied
  };
  struct Cursor {
    int wave, unit, step, stage;
    uint32_t parity;
    Tile tile;
  };

  // Every cluster has one in each wave. As many neighbours as there are units of the last tokens take turns, so that each
  // meets all of these alike: some would always have the smaller tiles or the tail.
  __device__ int UnitOf(int wave) const {
    const int units = (params_.token_units - 1) % kUnitsOfGroup + 1, first = cluster_ - cluster_ % units;
    const bool turns = first + units <= clusters_;
    const int place = turns ? first + (cluster_ + wave * (units + 1 - clusters_ % units)) % units : cluster_;
    return wave * clusters_ + place;
  }

  __device__ Tile TileOf(int unit) const {
    const int group = unit / (kUnitsOfGroup * params_.width_units);
    const int rest = unit - group * kUnitsOfGroup * params_.width_units;
    const int units = min(kUnitsOfGroup, params_.token_units - group * kUnitsOfGroup);
    const int width_unit = rest / units, token_unit = group * kUnitsOfGroup + rest - width_unit * units;
    const bool weight = kShared == Shared::kWeight;
    const int first_smaller = params_.token_units - params_.smaller_units, groups = kGroups - (token_unit >= first_smaller);
    const int ahead = token_unit * kGroups - max(token_unit - first_smaller, 0);  // groups of a block
    const int token = (weight ? ahead * kPair + rank_ * groups : ahead) * kGroupTokens;
    return {token, (weight ? width_unit : width_unit * kPair + rank_) * kHalf, groups,
            static_cast<int>(CopiedRows(params_.token_count - token, groups * kGroupTokens))};
  }

  // Over 16 elements of K. With three groups a kernel begins with 128 registers a thread, and a product of the whole width
  // would need more than that.
  __device__ static void Multiply(float (&c)[kWidth / 8][4], uint64_t a, uint64_t b) {
    if constexpr (kGroups < kMaxGroups) {
      sm90::MultiplyTile<T, kWidth>(c, a, b);
    } else {
      auto* const halves = reinterpret_cast<float(*)[kHalf / 8][4]>(c);
      sm90::MultiplyTile<T, kHalf>(halves[0], a, b);
      sm90::MultiplyTile<T, kHalf>(halves[1], a, sm90::Behind(b, kHalf * kStep * 2));
    }
  }

  __device__ Cursor First() const { return {0, cluster_, 0, 0, 0, TileOf(cluster_)}; }

  __device__ void Advance(Cursor& cursor) const {
    if (++cursor.stage == kStages) {
      cursor.stage = 0;
      cursor.parity ^= 1;
    }
    if (++cursor.step < params_.steps) return;
    cursor.step = 0;
    cursor.unit = UnitOf(++cursor.wave);
    if (cursor.unit < params_.units) cursor.tile = TileOf(cursor.unit);
  }

  // Announces a stage and copies its part of the weight: all of it, or half for both blocks.
  __device__ void CopyWeight(const Cursor& cursor, uint64_t policy) {
    Barrier* const full = full_ + cursor.stage;
    std::byte* const to = stages_ + cursor.stage * StageBytes(kWidth, kGroups) + kTokenBytes;
    const int column = cursor.step * kStep, first = cursor.tile.row, second = first + static_cast<int>(params_.inter);
    ArriveAndExpect(full, (cursor.tile.rows + kWidth) * kStep * 2);
    if constexpr (kShared == Shared::kWeight) {
      TensorCopyToAll(to + rank_ * kHalf * kStep * 2, &params_.weight, column, rank_ == 0 ? first : second, full, kBoth,
                      policy);
    } else {
      TensorCopy(to, &params_.weight, column, first, full, policy);
      TensorCopy(to + kHalf * kStep * 2, &params_.weight, column, second, full, policy);
    }
  }

  __device__ void CopyTokens(const Cursor& cursor, uint64_t policy) {
    Barrier* const full = full_ + cursor.stage;
    std::byte* const to = stages_ + cursor.stage * StageBytes(kWidth, kGroups);
    const int column = cursor.step * kStep;
    if (cursor.tile.rows == 0) return;
    const bool smaller = params_.smaller_units > 0 && cursor.tile.rows == kTileTokens - kGroupTokens;
    const CUtensorMap* const map = cursor.tile.rows == kTileTokens ? &params_.tokens
                                   : smaller                       ? &params_.smaller
                                                                   : &params_.tail;
    if constexpr (kShared == Shared::kTokens) {
      const int part = rank_ * cursor.tile.rows / kPair;
      TensorCopyToAll(to + part * kStep * 2, map, column, cursor.tile.token + part, full, kBoth, policy);
    } else {
      TensorCopy(to, map, column, cursor.tile.token, full, policy);
    }
  }

  // c[j] and c[j + kHalf / 8] are gates and ups of two neighbouring outputs of `token` and of token + 8, `lane` says which of a
  // block of eight.
  __device__ void AddBias(float (&c)[kWidth / 8][4], int row, int lane) const {
#pragma unroll
    for (int j = 0; j < kHalf / 8; ++j) {
      const int64_t column = row + 8 * j + 2 * lane;
      if (column >= params_.inter) break;
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const float2 bias = *reinterpret_cast<const float2*>(params_.bias + part * params_.inter + column);
        float(&sums)[4] = c[j + part * kHalf / 8];
        sums[0] += bias.x, sums[1] += bias.y, sums[2] += bias.x, sums[3] += bias.y;
      }
    }
  }

  // Two lanes swap, so that each has four outputs of one block, and four lanes' stores are 32 bytes in a row.
  __device__ void Finish(const float (&c)[kWidth / 8][4], int64_t token, int row, int lane) const {
    const bool odd = lane % 2 == 1, there[2] = {token < params_.token_count, token + 8 < params_.token_count};
    const int64_t column = row + (odd ? 8 : 0) + lane / 2 * 4;
    T* const to = static_cast<T*>(params_.out) + token * params_.out_stride + column;
#pragma unroll
    for (int j = 0; j < kHalf / 8; j += 2) {
      uint32_t pair[2][2];
#pragma unroll
      for (int b = 0; b < 2; ++b) Outputs(c[j + b], c[j + b + kHalf / 8], pair[b]);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t own = odd ? pair[1][i] : pair[0][i];
        const uint32_t other = __shfl_xor_sync(~0u, odd ? pair[0][i] : pair[1][i], 1);
        if (there[i] && column + 8 * j < params_.inter) {
          *reinterpret_cast<uint2*>(to + 8 * i * params_.out_stride + 8 * j) = odd ? uint2{other, own} : uint2{own, other};
        }
      }
    }
  }

  // Of two columns and two tokens each.
  __device__ static void Outputs(const float (&gate)[4], const float (&up)[4], uint32_t (&pair)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float2 open = Silu({gate[2 * i], gate[2 * i + 1]});
      pair[i] = Pack<T>(open.x * up[2 * i], open.y * up[2 * i + 1]);
    }
  }

  // What is in the tile beside the rows of its halves, and what is never drawn.
  __device__ void Exclude(float (&c)[kWidth / 8][4], int row, int lane) const {
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t column = row + j % (kHalf / 8) * 8 + 2 * lane + i % 2,
                      id = j < kHalf / 8 ? column : params_.inter + column;
        if (column >= params_.inter || id >= params_.ids) c[j][i] = -INFINITY;
      }
    }
  }

  // Columns are as above. Four lanes have the tile's logits of `token`, and of token + 8.
  __device__ void FindBest(const float (&c)[kWidth / 8][4], int64_t token, int row, int lane) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float highest = -INFINITY;
      int place = 0;  // ids rise with it, so the lowest of equals stays
      bool poisoned = false;
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float logit = c[j][2 * i + e];
          poisoned |= isnan(logit);
          if (logit > highest) highest = logit, place = 8 * j + e;
        }
      }
      const int column = row + place % kHalf + 2 * lane, id = place < kHalf ? column : static_cast<int>(params_.inter) + column;
      uint64_t best = poisoned ? kPoisonedBest : PackBest(fminf(highest, FLT_MAX), id);
      best = Larger(best, __shfl_xor_sync(~0u, best, 1));
      best = Larger(best, __shfl_xor_sync(~0u, best, 2));
      if (lane == 0 && token + 8 * i < params_.token_count) {
        atomicMax(reinterpret_cast<unsigned long long*>(params_.best + token + 8 * i), best);
      }
    }
  }

  const GatedParams& params_;
  std::byte* const stages_;
  const int rank_, cluster_, clusters_;
  Barrier *full_, *empty_;
};

#endif

template <typename T, int kGroups, int kWidth, Shared kShared, Result kResult>
__global__ void __launch_bounds__((kGroups + 1) * 128, 1) GatedProduct(const __grid_constant__ GatedParams params) {
#ifdef BERTH_HAS_SM90A
  extern __shared__ __align__(1024) std::byte gated_shared[];
  Walk<T, kGroups, kWidth, kShared, kResult> walk(params, gated_shared);
  if (threadIdx.x == 0) walk.InitBarriers();
  LetSuccessorStart();
  SyncCluster();
  if (threadIdx.x < 128) {
    if constexpr (kGroups > 1) sm90::GiveRegisters<kGroups == 2 ? 40 : 32>();
    if (threadIdx.x == 0) walk.Produce();
    __syncwarp();
  } else {
    if constexpr (kGroups > 1) sm90::TakeRegisters<kGroups == 2 ? 232 : 160>();
    walk.Consume(sm90::Warpgroup() - 1);
  }
  SyncCluster();  // until then the other block may write here
#endif
}

}  // namespace berth::kernels::cuda::gated
