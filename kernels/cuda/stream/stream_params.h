#pragma once

#include <optional>

#include "kernels/cuda/stream/stream_product_sm90.cuh"

namespace berth::kernels::cuda::stream {

// The parameters for `tokens` rows of `in` [*, k], those that `row` names if it is not empty, through `weight`. `run` as in
// StreamParams; `norm` may be null. Nothing if the kernel does not take them.
std::optional<StreamParams> StreamParamsOf(const Context& context, const Tensor& in, const Tensor& row, int64_t tokens,
                                           const Norm* norm, const LinearWeight& weight, int64_t run);

}  // namespace berth::kernels::cuda::stream
