#pragma once

#include "kernels/cuda/attend/decode_parts.cuh"
#include "kernels/cuda/attend/prefill_rows.cuh"

// What the kernels over latents share: see latent.cuh.
namespace berth::kernels::cuda {

struct LatentShape {
  static constexpr int kDim = kLatentKeyDim, kValueDim = kLatentValueDim;
  static constexpr int kRows = 64;
  static constexpr int kStepTokens = 32;
  static constexpr int kWarps = 8;  // warp w has rows 16 (w % 4) to 16 (w % 4) + 15; of keys and values its half w / 4
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRowSteps = 0;
  static constexpr bool kChunks = false;
  static constexpr int kQueryBytes = kRows * kDim * 2;
  static constexpr int kTileBytes = kStepTokens * kDim * 2;
  static constexpr int kWeightStride = 64;  // elements between rows of weights in shared memory
  static constexpr int kSharedBytes = kQueryBytes + 2 * kTileBytes + kRows * kWeightStride * 2;
  static_assert(kSharedBytes <= 160 << 10);
};

// What a decode block found of 64 rows that it shares with other blocks.
struct LatentPart {
  float value[LatentShape::kRows][LatentShape::kValueDim];
  float highest[LatentShape::kRows], sum[LatentShape::kRows];  // score (base 2), sum of weights
};
// A block may share its first row with blocks before it and its last with blocks behind.
inline constexpr int kLatentPartsPerBlock = 2;

// Rows behind the tile's last repeat it.
template <typename T>
__device__ void CopyLatentQueries(const AttendParams& params, const PrefillTile& tile, uint32_t to) {
  constexpr int kChunks = LatentShape::kDim / 8;
#pragma unroll 2
  for (int i = threadIdx.x; i < LatentShape::kRows * kChunks; i += LatentShape::kThreads) {
    const int row = i / kChunks, chunk = i % kChunks, r = tile.first_row + min(row, tile.rows - 1);
    const T* from = static_cast<const T*>(params.q) + (tile.first_token + r / params.group) * params.q_stride +
                    r % params.group * params.q_head_stride;
    CopyAsync(to + ChunkOffset<LatentShape::kDim>(row, chunk), from + chunk * 8, true);
  }
}

// The tokens of a step, zeros from `length` on: what lies there may be NaN.
__device__ inline void CopyLatents(const AttendParams& params, int entry, int step, int length, uint32_t to) {
  constexpr int kChunks = LatentShape::kDim / 8;
  const int token = step * LatentShape::kStepTokens;
  const int block = params.block_table[entry * params.block_table_stride + token / kKvBlockTokens];
  const std::byte* from = params.kv.base + block * params.kv.block_stride + token % kKvBlockTokens * (LatentShape::kDim * 2);
#pragma unroll
  for (int i = 0; i < LatentShape::kStepTokens * kChunks / LatentShape::kThreads; ++i) {
    const int item = i * LatentShape::kThreads + threadIdx.x, row = item / kChunks;
    CopyAsync(to + ChunkOffset<LatentShape::kDim>(row, item % kChunks), from + item * 16, token + row < length);
  }
}

// The running softmax of a block's rows; a thread has rows g and g + 8 of its warp's 16 (C in mma.cuh) and half of their
// values. All threads call its functions together.
template <typename T>
struct LatentState {
  using Shape = LatentShape;

  bool works;  // the tile has rows for this warp
  int position[2];
  float highest[2], sum[2];  // the sum is over this thread's columns
  float out[Shape::kValueDim / 16][4];

  static __device__ int Half() { return threadIdx.x / 128; }
  static __device__ int FirstRow() { return threadIdx.x / 32 % 4 * 16; }
  static __device__ int Row(int half) { return FirstRow() + threadIdx.x % 32 / 4 + half * 8; }

  __device__ void Start(const AttendParams& params, const PrefillTile& tile) {
    works = FirstRow() < tile.rows;
    for (int half = 0; half < 2; ++half) {
      position[half] = tile.position + (tile.first_row + Row(half)) / params.group;
      highest[half] = -INFINITY;
      sum[half] = 0;
    }
#pragma unroll
    for (auto& column : out) {
      for (float& x : column) x = 0;
    }
  }

  // Adds the tokens from `token` on, which lie at `keys`; `weights` is shared memory for the rows' weights of them.
  __device__ void Add(float scale_log2, int token, uint32_t queries, uint32_t keys, std::byte* weights) {
    __shared__ float maxima[2][Shape::kRows];
    float score[2][4] = {};
    if (works) {
      Score(queries, keys, score);
      Mask(token, score, maxima);
    }
    __syncthreads();
    float rescale[2];
    if (works) Weigh(scale_log2, maxima, score, rescale, weights);
    __syncthreads();
    if (!works) return;
    Rescale(rescale, out);
    AddValues(SharedAddress(weights), keys);
  }

  // The scores of this warp's half of the keys.
  __device__ void Score(uint32_t queries, uint32_t keys, float (&score)[2][4]) const {
    const int lane = threadIdx.x % 32;
#pragma unroll 4
    for (int k = 0; k < Shape::kDim / 16; ++k) {
      uint32_t a[4], b[4];
      LoadMatrices(a, queries + ChunkOffset<Shape::kDim>(FirstRow() + lane % 16, 2 * k + lane / 16));
      LoadMatrices(b, keys + ChunkOffset<Shape::kDim>(Half() * 16 + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
      Mma<T>(score[0], a, b[0], b[1]);
      Mma<T>(score[1], a, b[2], b[3]);
    }
  }

  // Scores behind a row's position go; the highest of the rest is left for the warp of the other half.
  __device__ void Mask(int token, float (&score)[2][4], float (&maxima)[2][Shape::kRows]) const {
    const int lane = threadIdx.x % 32;
    for (int half = 0; half < 2; ++half) {
      float own = -INFINITY;
      for (int i = 0; i < 4; ++i) {
        float& x = score[i / 2][half * 2 + i % 2];
        if (token + Half() * 16 + i / 2 * 8 + lane % 4 * 2 + i % 2 > position[half]) x = -INFINITY;
        own = fmaxf(own, x);
      }
      own = fmaxf(own, __shfl_xor_sync(~0u, own, 1));
      own = fmaxf(own, __shfl_xor_sync(~0u, own, 2));
      if (lane % 4 == 0) maxima[Half()][Row(half)] = own;
    }
  }

  // Scores become weights, in shared memory; what was summed before has to be multiplied by `rescale`.
  __device__ void Weigh(float scale_log2, const float (&maxima)[2][Shape::kRows], const float (&score)[2][4],
                        float (&rescale)[2], std::byte* weights) {
    for (int half = 0; half < 2; ++half) {
      const float new_highest = fmaxf(highest[half], fmaxf(maxima[0][Row(half)], maxima[1][Row(half)]));
      const float base = new_highest == -INFINITY ? 0 : new_highest * scale_log2;
      rescale[half] = Exp2(highest[half] * scale_log2 - base);
      highest[half] = new_highest;
      sum[half] *= rescale[half];
      for (int n = 0; n < 2; ++n) {
        const float low = Exp2(fmaf(score[n][half * 2], scale_log2, -base));
        const float high = Exp2(fmaf(score[n][half * 2 + 1], scale_log2, -base));
        sum[half] += low + high;
        const uint32_t place = ChunkOffset<Shape::kWeightStride>(Row(half), Half() * 2 + n) + threadIdx.x % 4 * 4;
        *reinterpret_cast<uint32_t*>(weights + place) = Pack<T>(low, high);
      }
    }
  }

  // out += weights · this warp's half of the values.
  __device__ void AddValues(uint32_t weights, uint32_t values) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < Shape::kStepTokens / 16; ++k) {
      uint32_t a[4];
      LoadMatrices(a, weights + ChunkOffset<Shape::kWeightStride>(FirstRow() + lane % 16, 2 * k + lane / 16));
#pragma unroll
      for (int n = 0; n < Shape::kValueDim / 16; n += 2) {
        uint32_t b[4];
        const int chunk = Half() * (Shape::kValueDim / 16) + n + lane / 16;
        LoadMatricesTransposed(b, values + ChunkOffset<Shape::kDim>(k * 16 + lane % 16, chunk));
        Mma<T>(out[n], a, b[0], b[1]);
        Mma<T>(out[n + 1], a, b[2], b[3]);
      }
    }
  }

  // The sums over all columns, of both halves' keys.
  __device__ void SumRows() {
    __shared__ float sums[2][Shape::kRows];
    for (int half = 0; half < 2; ++half) {
      sum[half] += __shfl_xor_sync(~0u, sum[half], 1);
      sum[half] += __shfl_xor_sync(~0u, sum[half], 2);
      if (threadIdx.x % 4 == 0) sums[Half()][Row(half)] = sum[half];
    }
    __syncthreads();
    for (int half = 0; half < 2; ++half) sum[half] = sums[0][Row(half)] + sums[1][Row(half)];
  }

  // After SumRows: the outputs.
  __device__ void Store(const AttendParams& params, const PrefillTile& tile) const {
    for (int half = 0; half < 2; ++half) {
      const int row = Row(half), own = tile.first_row + row;
      if (row >= tile.rows) continue;
      const float factor = 1 / sum[half];
      T* to = static_cast<T*>(params.out) + (tile.first_token + own / params.group) * params.out_stride +
              own % params.group * params.out_head_stride + Half() * (Shape::kValueDim / 2) + threadIdx.x % 4 * 2;
#pragma unroll
      for (int n = 0; n < Shape::kValueDim / 16; ++n) {
        *reinterpret_cast<uint32_t*>(to + n * 8) = Pack<T>(out[n][half * 2] * factor, out[n][half * 2 + 1] * factor);
      }
    }
  }

  // After SumRows: this block's part of the outputs.
  __device__ void StorePart(float scale_log2, const PrefillTile& tile, LatentPart& part) const {
    for (int half = 0; half < 2; ++half) {
      const int row = Row(half);
      if (row >= tile.rows) continue;
      float* to = part.value[row] + Half() * (Shape::kValueDim / 2) + threadIdx.x % 4 * 2;
#pragma unroll
      for (int n = 0; n < Shape::kValueDim / 16; ++n) {
        *reinterpret_cast<float2*>(to + n * 8) = make_float2(out[n][half * 2], out[n][half * 2 + 1]);
      }
      part.highest[row] = highest[half] * scale_log2;
      part.sum[row] = sum[half];
    }
  }
};

}  // namespace berth::kernels::cuda
