#pragma once

#include <optional>

#include "kernels/cuda/stream/chain_launch.h"
#include "kernels/cuda/stream/wide_launch_sm90.cuh"

namespace berth::kernels::cuda::stream {

// What a product reads: `tokens` rows of `in` [*, k], those that `row` names if it is not empty, and a weight whose rows pair
// up as `run` says, see LinkProduct. `norm` may be null.
struct ProductInputs {
  const Tensor &in, &row;
  int64_t tokens;
  const Norm* norm;
  const LinearWeight& weight;
  int64_t run;
};

// The parameters of the kernels for few and for more tokens. Nothing if the kernel does not take them.
std::optional<LinkProduct> LinkProductOf(const Context& context, const ProductInputs& inputs);
std::optional<WideParams> WideParamsOf(const Context& context, const ProductInputs& inputs);

// Queues the product, or adds it to those that are queued together; false, with nothing queued, if no kernel takes it.
template <typename T, bool kNormed, typename Epilogue>
bool LaunchProduct(Context& context, const ProductInputs& inputs, const Epilogue& epilogue) {
  if (const auto product = LinkProductOf(context, inputs)) {
    AddToChain<T>(context, *product, epilogue);
    return true;
  }
  const auto wide = WideParamsOf(context, inputs);
  if (wide) LaunchWide<T, kNormed>(context, *wide, epilogue);
  return wide.has_value();
}

}  // namespace berth::kernels::cuda::stream
