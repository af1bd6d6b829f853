#pragma once

#include "kernels/cuda/attn_finish.cuh"
#include "kernels/cuda/stream/handed.cuh"
#include "kernels/cuda/util/activate.cuh"
#include "kernels/cuda/util/numeric.cuh"

namespace berth::kernels::cuda::stream {

// What becomes of a product's sums. An epilogue is a plain struct with, for a pair of rows of the weight (the second of a tile
// without runs may lie behind the last)
//   Prepared Prepare(int first, int second, int token): begins to load what Finish needs
//   void Resolve(Prepared&, int first, int token): the same for what depends on these loads, some time later
//   void Finish(const Prepared&, int first, int second, int token, float first_sum, float second_sum)
// and for outputs that other blocks of the kernel may wait for, where to hand on those of `token`, null: nobody waits.

// Puts output `i` of a token to its place and hands it on.
template <typename T>
__device__ void Put(T* to, T* handed, int64_t i, float value) {
  const T x = FromFloat<T>(value);
  to[i] = x;
#if __CUDA_ARCH__ >= 900
  if constexpr (sizeof(T) == 2) {
    if (handed != nullptr) HandOn(handed + i, x);
  }
#endif
}

// A pair is two dimensions of one head of q, k or v: two that are rotated together, or two of a model without rotation.
template <typename T>
struct AttnInEpilogue {
  AttnFinish finish;

  struct Prepared {
    int position, sequence;
    float2 angle;
    T* to;
  };

  __device__ bool Rotates(int head) const { return finish.pairs > 0 && !finish.IsV(head); }

  __device__ Prepared Prepare(int first, int second, int token) const {
    return {.position = finish.position[token], .sequence = finish.sequence_of[token], .angle = {1, 0}, .to = nullptr};
  }
  // All that takes time and does not need the sums.
  __device__ void Resolve(Prepared& prepared, int first, int token) const {
    const int head = first / finish.head_dim, at = first % finish.head_dim, position = prepared.position;
    const int block = finish.IsQ(head) ? 0 : finish.Block(position, prepared.sequence);
    if (Rotates(head)) prepared.angle = finish.Angle(finish.Frequency(at, prepared.sequence), position);
    prepared.to = finish.To<T>(head, token, position, block) + at;
  }
  __device__ void Finish(const Prepared& prepared, int first, int second, int token, float a, float b) const {
    if (finish.bias != nullptr) {
      a += finish.bias[first];
      b += finish.bias[second];
    }
    const float2 rotated = Rotated(finish.Clipped(a), finish.Clipped(b), prepared.angle);
    prepared.to[0] = FromFloat<T>(rotated.x);
    prepared.to[second - first] = FromFloat<T>(rotated.y);
  }
};

// A pair is an output's gate and up row, or two outputs of an MLP without gates.
template <typename T>
struct MlpUpEpilogue {
  Activation activation;
  bool gated;
  const float* bias;
  int64_t inter;
  T* out;
  int64_t out_stride;

  struct Prepared {};

  __device__ Prepared Prepare(int first, int second, int token) const { return {}; }
  __device__ void Resolve(Prepared&, int first, int token) const {}
  __device__ void Finish(const Prepared&, int first, int second, int token, float a, float b, T* handed = nullptr) const {
    const bool both = gated || second < inter;
    if (bias != nullptr) {
      a += bias[first];
      if (both) b += bias[second];
    }
    T* to = out + token * out_stride;
    if (gated) {
      Put(to, handed, first, Activate(activation, a) * b);
    } else {
      Put(to, handed, first, Activate(activation, a));
      if (both) Put(to, handed, second, Activate(activation, b));
    }
  }
};

// A pair is two neighbouring outputs of a plain product, which go to what they are added to or to their own place.
template <typename Out>
struct StoreEpilogue {
  int64_t n;
  const float* bias;
  float scale, softcap;
  bool accumulate;
  Out* out;
  int64_t out_stride;

  struct Prepared {
    Out first, second;  // what the outputs hold
  };

  __device__ Prepared Prepare(int first, int second, int token) const {
    if (!accumulate) return {};
    const Out* from = out + token * out_stride;
    return {__ldcg(from + first), __ldcg(from + min(static_cast<int64_t>(second), n - 1))};
  }
  __device__ void Resolve(Prepared&, int first, int token) const {}
  __device__ void Finish(const Prepared& prepared, int first, int second, int token, float a, float b,
                         Out* handed = nullptr) const {
    Out* to = out + token * out_stride;
    Put(to, handed, first, Held(prepared.first) + Finished(a, first));
    if (second < n) Put(to, handed, second, Held(prepared.second) + Finished(b, second));
  }
  __device__ float Held(Out value) const { return accumulate ? ToFloat(value) : 0.f; }
  __device__ float Finished(float x, int64_t i) const {
    if (bias != nullptr) x += bias[i];
    x *= scale;
    return softcap > 0 ? softcap * tanhf(x / softcap) : x;
  }
};

}  // namespace berth::kernels::cuda::stream
