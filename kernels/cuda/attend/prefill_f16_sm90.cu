#include "kernels/cuda/attend/prefill_sm90.cuh"

namespace berth::kernels::cuda {

template void AttendPrefillSm90<__half>(Context& context, const AttendParams& params, const AttendEntries& entries);

}  // namespace berth::kernels::cuda
