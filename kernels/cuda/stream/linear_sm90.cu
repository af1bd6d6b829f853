#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/stream/stream_params.h"

namespace berth::kernels::cuda {
namespace {

template <typename Out>
struct StoreEpilogue {
  int64_t n;
  const float* bias;
  float scale, softcap;
  bool accumulate;
  Out* out;
  int64_t out_stride;

  struct Prepared {
    Out first, second;  // what the outputs hold
  };

  __device__ Prepared Prepare(int first, int second, int token) const {
    if (!accumulate) return {};
    const Out* from = out + token * out_stride;
    return {from[first], from[min(static_cast<int64_t>(second), n - 1)]};
  }
  __device__ void Resolve(Prepared&, int first, int token) const {}
  __device__ void Finish(const Prepared& prepared, int first, int second, int token, float a, float b) const {
    Out* to = out + token * out_stride;
    to[first] = FromFloat<Out>(Held(prepared.first) + Finished(a, first));
    if (second < n) to[second] = FromFloat<Out>(Held(prepared.second) + Finished(b, second));
  }
  __device__ float Held(Out value) const { return accumulate ? ToFloat(value) : 0.f; }
  __device__ float Finished(float x, int64_t i) const {
    if (bias != nullptr) x += bias[i];
    x *= scale;
    return softcap > 0 ? softcap * tanhf(x / softcap) : x;
  }
};

}  // namespace

bool StreamLinear(Context& context, const Tensor& in, const LinearWeight& weight, const LinearFinish& finish,
                  const Tensor& out) {
  const stream::ProductInputs inputs{in, Tensor(), in.dim(0), nullptr, weight, 0};
  const auto launch = [&](auto type, auto out_type) {
    using T = decltype(type);
    using Out = decltype(out_type);
    return stream::LaunchProduct<T, false>(context, inputs,
                                           StoreEpilogue<Out>{.n = weight.n(),
                                                              .bias = static_cast<const float*>(finish.bias.raw()),
                                                              .scale = finish.scale,
                                                              .softcap = 0,
                                                              .accumulate = finish.accumulate,
                                                              .out = static_cast<Out*>(out.raw()),
                                                              .out_stride = out.stride(0)});
  };
  bool taken = false;
  WithActivation(in.dtype(),
                 [&](auto type) { taken = out.dtype() == DType::kF32 ? launch(type, float{}) : launch(type, type); });
  return taken;
}

bool StreamHead(Context& context, const HeadArgs& args) {
  const auto params = stream::StreamParamsOf(context, {args.residual, args.row, args.row.dim(0), &args.norm, args.weight, 0});
  if (!params) return false;
  WithActivation(args.residual.dtype(), [&](auto type) {
    stream::LaunchStream<decltype(type), true>(context, *params,
                                               StoreEpilogue<float>{.n = args.weight.n(),
                                                                    .bias = static_cast<const float*>(args.bias.raw()),
                                                                    .scale = args.scale,
                                                                    .softcap = args.softcap,
                                                                    .accumulate = false,
                                                                    .out = args.logits.data<float>(),
                                                                    .out_stride = args.logits.stride(0)});
  });
  return true;
}

}  // namespace berth::kernels::cuda
