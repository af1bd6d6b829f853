#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 1024;

// One admit per block. Integer additions and ors give equal counts in any order.
__global__ void __launch_bounds__(kThreads)
    AdmitSlot(const int32_t* slots, const SlotSampling* params, const int32_t* history_start, const int32_t* prompt_length,
              const int32_t* history, SlotSampling* slot_params, uint32_t* slot_counts, int64_t counts_stride, int vocab) {
  LetSuccessorStart();
  WaitForInputs();
  const int slot = slots[blockIdx.x], begin = history_start[blockIdx.x], end = history_start[blockIdx.x + 1];
  const int output = begin + prompt_length[blockIdx.x];
  uint32_t* counts = slot_counts + slot * counts_stride;
  for (int id = threadIdx.x; id < vocab; id += kThreads) counts[id] = 0;
  if (threadIdx.x == 0) slot_params[slot] = params[blockIdx.x];
  __syncthreads();
  for (int i = begin + threadIdx.x; i < end; i += kThreads) {
    if (i < output) {
      atomicOr(&counts[history[i]], kTokenInPrompt);
    } else {
      atomicAdd(&counts[history[i]], 1u);
    }
  }
}

}  // namespace

void Admit(Context& context, const AdmitArgs& args) {
  Launch(context, AdmitSlot, args.slot.dim(0), kThreads, 0, args.slot.data<int32_t>(),
         static_cast<const SlotSampling*>(args.params.raw()), args.history_start.data<int32_t>(),
         args.prompt_length.data<int32_t>(), args.history.data<int32_t>(), static_cast<SlotSampling*>(args.slot_params.raw()),
         args.slot_counts.data<uint32_t>(), args.slot_counts.stride(0), static_cast<int>(args.slot_counts.dim(1)));
  context.serial = true;  // sampling reads a slot's parameters ahead of its wait
}

}  // namespace berth::kernels::cuda
