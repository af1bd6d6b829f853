#include "kernels/cuda/attend/prefill.cuh"

namespace berth::kernels::cuda {

template void AttendPrefill<__half>(Context& context, const AttendParams& params, const AttendEntries& entries);

}  // namespace berth::kernels::cuda
