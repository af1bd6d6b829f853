#pragma once

#include <optional>

#include "kernels/cuda/stream/stream_product_sm90.cuh"
#include "kernels/cuda/stream/wide_launch_sm90.cuh"

namespace berth::kernels::cuda::stream {

// What a product reads: `tokens` rows of `in` [*, k], those that `row` names if it is not empty, and a weight whose rows pair
// up as `run` says, see StreamParams. `norm` may be null.
struct ProductInputs {
  const Tensor &in, &row;
  int64_t tokens;
  const Norm* norm;
  const LinearWeight& weight;
  int64_t run;
};

// The parameters of the kernels for few and for more tokens. Nothing if the kernel does not take them.
std::optional<StreamParams> StreamParamsOf(const Context& context, const ProductInputs& inputs);
std::optional<WideParams> WideParamsOf(const Context& context, const ProductInputs& inputs);

// Queues the product on the kernel that takes it; false, with nothing queued, if none does.
template <typename T, bool kNormed, typename Epilogue>
bool LaunchProduct(Context& context, const ProductInputs& inputs, const Epilogue& epilogue) {
  if (const auto params = StreamParamsOf(context, inputs)) {
    LaunchStream<T, kNormed>(context, *params, epilogue);
    return true;
  }
  if (const auto params = WideParamsOf(context, inputs)) {
    LaunchWide<T, kNormed>(context, *params, epilogue);
    return true;
  }
  return false;
}

}  // namespace berth::kernels::cuda::stream
