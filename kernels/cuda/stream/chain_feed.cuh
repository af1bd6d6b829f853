#pragma once

#include <cstdint>

#include "kernels/cuda/stream/chain_params.cuh"
#include "kernels/cuda/stream/chain_shared.cuh"
#include "kernels/cuda/stream/handed.cuh"
#include "kernels/cuda/util/bulk_copy.cuh"
#include "kernels/cuda/util/launch.cuh"

namespace berth::kernels::cuda::stream {

// The two warps of a chain's block beside those that multiply.

#if __CUDA_ARCH__ >= 900

// Copies the block's tiles of every link. One thread.
template <typename T, bool kLinked>
class ChainProducer {
 public:
  __device__ ChainProducer(const ChainParams<T>& params, const ChainShared& shared) : params_(params), shared_(shared) {}

  __device__ void Produce() {
    const uint64_t policy = StreamingPolicy();
    for (int i = 0; i < Links<kLinked>(params_); ++i) {
      const LinkProduct& link = params_.link[i].product;
      const int end = Share(link, blockIdx.x + 1), chunks = Chunks<T>(link);
      for (int first = Share(link, blockIdx.x); first < end; first += kGroup) {
        for (int chunk = 0; chunk < chunks; ++chunk) {
          for (int tile = first; tile < min(first + kGroup, end); ++tile) Copy(link, tile, chunk, policy);
        }
      }
    }
  }

 private:
  // Not before the ring has room and of the copies before only few are under way: what else is read waits behind them. That
  // wait comes last, so that the copy follows it at once.
  __device__ void Copy(const LinkProduct& link, int tile, int chunk, uint64_t policy) {
    const int run = link.run == 0 ? 0 : tile / link.tiles_of_run;
    const int row = link.run == 0 ? tile * kTileRows : (tile - run * link.tiles_of_run) * kTilePairs;
    WaitFor(shared_.empty + at_.stage, at_.parity ^ 1);
    ArriveAndExpect(shared_.full + at_.stage, kStageBytes);
    if (flying_ == params_.flying) {
      WaitFor(shared_.full + landed_.stage, landed_.parity);
      landed_.Advance(params_.stages);
    } else {
      ++flying_;
    }
    TensorCopy(shared_.stages + at_.stage * kStageBytes, &link.map, chunk * (kChunkBytes / 2 / kMapElements), row, 0, run,
               shared_.full + at_.stage, policy);
    at_.Advance(params_.stages);
  }

  const ChainParams<T>& params_;
  const ChainShared& shared_;
  RingCursor at_, landed_;
  int flying_ = 0;  // between the two
};

template <typename T, bool kLinked>
class ChainWaiter {
 public:
  __device__ ChainWaiter(const ChainParams<T>& params, const ChainShared& shared) : params_(params), shared_(shared) {}

  // The warp that waits for the other blocks: after each product it counts that the block has handed on its results, and lets
  // the consumers look for what all have when about all have. (Where all of them look on, for as long as they wait, it takes
  // longer.)
  __device__ void Synchronise() {
    if (lane_ == 0) FetchNorm(0);
    WaitForInputs();
    if constexpr (!kLinked) return;
    ChainState& state = *params_.state;
    // Blocks that are ahead may have counted themselves: never all, for this one has not.
    uint64_t begun = LoadCount(&state.begun), arrived = LoadCount(&state.arrived);
    const uint64_t set = begun / gridDim.x % 2;
    if (lane_ == 0) {
      Count(&state.begun);
      *shared_.set = params_.handed + set * params_.set_bytes;
      Arrive(shared_.chosen);
      arrived = arrived / gridDim.x * gridDim.x;
    }
    for (int i = 1; i < params_.links; ++i) {
      AwaitWritten();
      if (lane_ == 0) {
        Count(&state.arrived);
        FetchNorm(i);
        arrived += gridDim.x;
        while (LoadCount(&state.arrived) < arrived) {
        }
        Arrive(shared_.ready);
      }
      __syncwarp();
    }
    if (blockIdx.x == 0 && lane_ == 0) state.used[set] = params_.used;
    auto* const other = reinterpret_cast<uint4*>(params_.handed + (1 - set) * params_.set_bytes);
    const auto count = static_cast<int>(state.used[1 - set] / sizeof(uint4));
    for (int i = blockIdx.x * 32 + lane_; i < count; i += gridDim.x * 32) other[i] = uint4{};
  }

 private:
  __device__ void FetchNorm(int i) {
    const LinkProduct& link = params_.link[i].product;
    if (link.norm.weight == nullptr) return;
    const auto bytes = static_cast<uint32_t>(link.k * sizeof(float));
    ArriveAndExpect(shared_.norm_full, bytes);
    BulkCopy(shared_.norm, link.norm.weight, bytes, shared_.norm_full);
  }

  const ChainParams<T>& params_;
  const ChainShared& shared_;
  const int lane_ = threadIdx.x % 32;
};

#endif

}  // namespace berth::kernels::cuda::stream
