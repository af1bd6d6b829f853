#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/stream/stream_params.h"
#include "kernels/cuda/util/activate.cuh"

namespace berth::kernels::cuda {
namespace {

// A pair is an output's gate and up row, or two outputs of an MLP without gates.
template <typename T>
struct MlpUpEpilogue {
  Activation activation;
  bool gated;
  const float* bias;
  int64_t inter;
  T* out;
  int64_t out_stride;

  struct Prepared {};

  __device__ Prepared Prepare(int first, int second, int token) const { return {}; }
  __device__ void Resolve(Prepared&, int first, int token) const {}
  __device__ void Finish(const Prepared&, int first, int second, int token, float a, float b) const {
    const bool both = gated || second < inter;
    if (bias != nullptr) {
      a += bias[first];
      if (both) b += bias[second];
    }
    T* to = out + token * out_stride;
    if (gated) {
      to[first] = FromFloat<T>(Activate(activation, a) * b);
    } else {
      to[first] = FromFloat<T>(Activate(activation, a));
      if (both) to[second] = FromFloat<T>(Activate(activation, b));
    }
  }
};

}  // namespace

bool StreamMlpUp(Context& context, const MlpUpArgs& args) {
  const int64_t inter = args.out.dim(1);
  const stream::ProductInputs inputs{args.residual, Tensor(), args.out.dim(0), &args.norm, args.weight, args.gated ? inter : 0};
  bool taken = false;
  WithActivation(args.residual.dtype(), [&](auto type) {
    using T = decltype(type);
    taken = stream::LaunchProduct<T, true>(context, inputs,
                                           MlpUpEpilogue<T>{.activation = args.activation,
                                                            .gated = args.gated,
                                                            .bias = static_cast<const float*>(args.bias.raw()),
                                                            .inter = inter,
                                                            .out = static_cast<T*>(args.out.raw()),
                                                            .out_stride = args.out.stride(0)});
  });
  return taken;
}

}  // namespace berth::kernels::cuda
