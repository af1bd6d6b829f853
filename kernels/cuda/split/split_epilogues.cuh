#pragma once

#include <cstdint>

#include "kernels/cuda/attn_finish.cuh"
#include "kernels/cuda/split/split_params.h"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda::split {

// What a thread finishes: one token's sums in every kStride-th of a tile's pieces, kRounds times. A piece is 16 rows of the
// weight in two halves of eight; the thread has the columns 2q and 2q + 1 of each, q = lane % 4.
struct Place {
  int tile;
  int first_token;         // of those that the set of four warps finishes, 32 / kStride
  int token, token_count;  // the thread's, and where tokens end
  int piece;               // the first
  int lane;
};

// What becomes of a product's sums. An epilogue is a plain struct with
//   kPaired: whether the second halves of pieces are the partners of the first, half a head behind them
//   SharedBytes(width, ranks): of a set
//   Own<kWidth, kStride, kRounds>: what one thread needs. Made before the grid dependency wait by all threads of a set, then
//     Fetch(): begins to load what the sums are added to
//     Finish(round, sums): the columns of the first half, then those of the second; by whole warps

// out = (sum + bias) * scale, plus what it holds if `accumulate`. Two lanes swap, so that each has four columns in a row.
template <typename T>
struct StoreEpilogue {
  int n;
  const float* bias;  // or null
  float scale;
  bool accumulate;
  T* out;
  int64_t out_stride;

  static StoreEpilogue Of(const LinearFinish& finish, const Tensor& out) {
    return {.n = static_cast<int>(out.dim(1)),
            .bias = static_cast<const float*>(finish.bias.raw()),
            .scale = finish.scale,
            .accumulate = finish.accumulate,
            .out = static_cast<T*>(out.raw()),
            .out_stride = out.stride(0)};
  }

  static constexpr bool kPaired = false;
  static constexpr int SharedBytes(int width, int ranks) { return 0; }

  template <int kWidth, int kStride, int kRounds>
  struct Own {
    const StoreEpilogue& epilogue;
    const bool odd;
    T* to;
    int column, end;  // `end` is 0 where there is no such token
    uint2 held[kRounds];

    __device__ Own(const StoreEpilogue& e, const Place& place, std::byte*) : epilogue(e), odd(place.lane % 2 == 1), held{} {
      column = place.tile * kWidth + place.piece * 16 + (odd ? 8 : 0) + place.lane % 4 / 2 * 4;
      end = place.token < place.token_count ? min(e.n, (place.tile + 1) * kWidth) : 0;
      to = e.out + place.token * e.out_stride + column;
    }

    __device__ void Fetch() {
      if (!epilogue.accumulate) return;
#pragma unroll
      for (int r = 0; r < kRounds; ++r) {
        if (Has(r)) held[r] = __ldcg(reinterpret_cast<const uint2*>(to + r * kStride * 16));
      }
    }
    __device__ bool Has(int round) const { return column + round * kStride * 16 < end; }

    __device__ void Finish(int round, float4 sum) const {
      const float x = __shfl_xor_sync(~0u, odd ? sum.x : sum.z, 1), y = __shfl_xor_sync(~0u, odd ? sum.y : sum.w, 1);
      if (!Has(round)) return;
      float values[4] = {odd ? x : sum.x, odd ? y : sum.y, odd ? sum.z : x, odd ? sum.w : y}, before[4], bias[4] = {};
      if (epilogue.bias != nullptr) Load<4>(epilogue.bias + column + round * kStride * 16, bias);
      Load<4>(reinterpret_cast<const T*>(&held[round]), before);
#pragma unroll
      for (int e = 0; e < 4; ++e) values[e] = before[e] + (values[e] + bias[e]) * epilogue.scale;
      Store<4>(values, to + round * kStride * 16);
    }
  };
};

// Bias, clip and rotation on the way to q or the cache. A tile is kWidth / 2 pairs of one head; a piece has the first
// dimensions of eight pairs, then the second ones. The angles of the block's tokens lie in shared memory.
template <typename T>
struct AttnInEpilogue {
  AttnFinish finish;

  static constexpr bool kPaired = true;
  static constexpr int SharedBytes(int width, int ranks) { return kSetTokens / ranks * (width / 2) * 8; }

  template <int kWidth, int kStride, int kRounds>
  struct Own {
    const AttnFinish& finish;
    const float4* angles;  // of the thread's token, from its first pairs on
    T* to;
    const float* bias = nullptr;
    const bool odd;
    bool has;

    static constexpr int kPairs = kWidth / 2, kTokensOfBlock = 32 / kStride;

    __device__ Own(const AttnInEpilogue& e, const Place& place, std::byte* shared)
        : finish(e.finish), odd(place.lane % 2 == 1) {
      const int half = finish.head_dim / 2, tiles = half / kPairs, head = place.tile / tiles,
                begin = place.tile % tiles * kPairs;
      const int at = place.piece * 8 + place.lane % 4 * 2;
      auto* const table = reinterpret_cast<float2*>(shared);
      const bool rotates = !finish.IsV(head);
      // Loads first, all of them at once.
#pragma unroll 4
      for (int i = threadIdx.x % 128; i < kTokensOfBlock * kPairs; i += 128) {
        const int t = min(place.first_token + i / kPairs, place.token_count - 1);
        table[i] = {finish.Frequency(begin + i % kPairs, finish.sequence_of[t]), __int_as_float(finish.position[t])};
      }
#pragma unroll 1
      for (int i = threadIdx.x % 128; i < kTokensOfBlock * kPairs; i += 128) {
        table[i] = rotates ? finish.Angle(table[i].x, __float_as_int(table[i].y)) : float2{1, 0};
      }
      angles = reinterpret_cast<const float4*>(table + (place.token - place.first_token) * kPairs + at);
      has = place.token < place.token_count && head < finish.q_heads + 2 * finish.kv_heads;
      if (!has) return;
      if (finish.bias != nullptr) bias = finish.bias + head * finish.head_dim + begin + at;
      const int position = finish.position[place.token];
      const int block = finish.IsQ(head) ? 0 : finish.Block(position, finish.sequence_of[place.token]);
      // An even lane stores four first dimensions, an odd one the second dimensions of the same pairs.
      to = finish.To<T>(head, place.token, position, block) + begin + at + (odd ? half - 2 : 0);
    }

    __device__ void Fetch() {}

    __device__ void Finish(int round, float4 sum) const {
      const int at = round * kStride * 8, half = finish.head_dim / 2;
      if (bias != nullptr) {
        const float2 a = *reinterpret_cast<const float2*>(bias + at), b = *reinterpret_cast<const float2*>(bias + half + at);
        sum.x += a.x, sum.y += a.y, sum.z += b.x, sum.w += b.y;
      }
      const float4 angle = angles[at / 2];
      const float2 first = Rotated(finish.Clipped(sum.x), finish.Clipped(sum.z), {angle.x, angle.y});
      const float2 second = Rotated(finish.Clipped(sum.y), finish.Clipped(sum.w), {angle.z, angle.w});
      const uint32_t low = Pack<T>(first.x, second.x), high = Pack<T>(first.y, second.y);
      const uint32_t other = __shfl_xor_sync(~0u, odd ? low : high, 1);
      if (has) *reinterpret_cast<uint2*>(to + at) = odd ? uint2{other, high} : uint2{low, other};
    }
  };
};

}  // namespace berth::kernels::cuda::split
