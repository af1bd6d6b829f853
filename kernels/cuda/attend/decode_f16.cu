#include "kernels/cuda/attend/decode.cuh"

namespace berth::kernels::cuda {

template void AttendDecode<__half>(Context& context, const AttendParams& params, uint64_t batch_number, int entries,
                                   bool chunks);

}  // namespace berth::kernels::cuda
