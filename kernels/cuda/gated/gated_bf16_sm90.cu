#include "kernels/cuda/gated/gated_launch_sm90.cuh"

namespace berth::kernels::cuda::gated {

template void LaunchGated<__nv_bfloat16>(Context&, const GatedParams&, const GatedPlan&);
template void LaunchBest<__nv_bfloat16>(Context&, const GatedParams&, const GatedPlan&);

}  // namespace berth::kernels::cuda::gated
