#include "kernels/cuda/attend/prefill.cuh"

namespace berth::kernels::cuda {

template void AttendPrefill<__nv_bfloat16>(Context& context, const AttendParams& params, const AttendEntries& entries);

}  // namespace berth::kernels::cuda
