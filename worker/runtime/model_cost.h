#pragma once

#include "kernels/dtype.h"
#include "worker/engine/step_cost.h"
#include "worker/model/decoder_spec.h"

namespace berth::runtime {

// What a device could do at its clocks' highest.
struct DevicePeak {
  double bytes = 0;  // of memory, a second
  double flops = 0;  // of dense matrix products, a second
};

// The model of a step's time: the bytes and multiplications of the model at the shares of the peaks that the kernels reach. It
// depends on nothing measured, so that the same steps are planned at every start. `dtype`: of weights and KV.
engine::StepCost ModelCost(const model::DecoderSpec& spec, kernels::DType dtype, const DevicePeak& peak);

}  // namespace berth::runtime
