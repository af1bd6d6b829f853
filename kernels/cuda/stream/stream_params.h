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

// Up to so many the kernel for few tokens is the faster of the two.
inline constexpr int64_t kFewTokens = 4;

// The parameters of the kernels for few and for more tokens. Nothing if the kernel does not take them.
std::optional<StreamParams> StreamParamsOf(const Context& context, const ProductInputs& inputs);
std::optional<WideParams> WideParamsOf(const Context& context, const ProductInputs& inputs);

// Queues the product on the kernel that takes it; false, with nothing queued, if none does.
template <typename T, bool kNormed, typename Epilogue>
bool LaunchProduct(Context& context, const ProductInputs& inputs, const Epilogue& epilogue) {
  const auto wide = inputs.tokens > kFewTokens ? WideParamsOf(context, inputs) : std::nullopt;
  if (wide) {
    LaunchWide<T, kNormed>(context, *wide, epilogue);
    return true;
  }
  const auto few = StreamParamsOf(context, inputs);
  if (few) LaunchStream<T, kNormed>(context, *few, epilogue);
  return few.has_value();
}

}  // namespace berth::kernels::cuda::stream
