#include "kernels/cuda/gated/gated_launch_sm90.cuh"

namespace berth::kernels::cuda::gated {

template void LaunchGated<__half>(Context&, const GatedParams&, const GatedPlan&);
template void LaunchBest<__half>(Context&, const GatedParams&, const GatedPlan&);

}  // namespace berth::kernels::cuda::gated
