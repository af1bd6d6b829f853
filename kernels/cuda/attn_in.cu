#include "kernels/cuda/attn_finish.cuh"
#include "kernels/cuda/split/split.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda {
namespace {

// One head of one row of any shape: bias → clip → norm → rotation → q or the cache. Grid: (heads of q, k and v, rows).
template <typename T>
__global__ void FinishHead(AttnFinish finish, const T* product, int64_t product_stride) {
  extern __shared__ float head[];
  __shared__ float shared[32];
  LetSuccessorStart();
  WaitForInputs();
  const int h = blockIdx.x, row = blockIdx.y, dim = finish.head_dim;
  for (int i = threadIdx.x; i < dim; i += blockDim.x) {
    float x = ToFloat(product[row * product_stride + h * dim + i]);
    if (finish.bias != nullptr) x += finish.bias[h * dim + i];
    head[i] = finish.Clipped(x);
  }
  __syncthreads();
  const NormView& norm = finish.IsQ(h) ? finish.q_norm : finish.k_norm;
  if (!finish.IsV(h) && norm.weight != nullptr) {
    const float2 statistics = RowStatistics<1>(norm, head, dim, shared);
    for (int i = threadIdx.x; i < dim; i += blockDim.x) {
      float x[1] = {head[i]};
      NormVector(norm, statistics, i, x);
      head[i] = x[0];
    }
    __syncthreads();
  }
  const int position = finish.position[row], sequence = finish.sequence_of[row];
  const int block = finish.Block(position, sequence);
  T* to = finish.To<T>(h, row, position, block);
  const int pairs = finish.IsV(h) ? 0 : finish.pairs;
  const float scale = finish.HeadScale(h, position);
  for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
    const float2 rotated = Rotated(head[i], head[i + pairs], finish.Angle(finish.Frequency(i, sequence), position));
    to[i] = FromFloat<T>(rotated.x * scale);
    to[i + pairs] = FromFloat<T>(rotated.y * scale);
  }
  for (int i = 2 * pairs + threadIdx.x; i < dim; i += blockDim.x) to[i] = FromFloat<T>(head[i] * scale);
}

constexpr int kRowThreads = 256;

// The same for a whole row whose heads have kHeadDim dimensions, all rotated: the angles are computed once, while the product
// comes in, and a thread holds eight dimensions of a head's first half and their partners. Grid: (rows, shares of a row).
template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kRowThreads) FinishRow(AttnFinish finish, const T* product, int64_t product_stride) {
  constexpr int kPairs = kHeadDim / 2, kLanes = kPairs / 8;
  __shared__ float2 angle[kPairs];
  LetSuccessorStart();
  const int row = blockIdx.x, heads = finish.q_heads + 2 * finish.kv_heads, begin = blockIdx.y * kRowThreads;
  Vector<T, 8> low, high;
  const auto load = [&](int item) {
    const T* from = product + row * product_stride + min(item / kLanes, heads - 1) * kHeadDim + item % kLanes * 8;
    low = *reinterpret_cast<const Vector<T, 8>*>(from);
    high = *reinterpret_cast<const Vector<T, 8>*>(from + kPairs);
  };
  WaitForInputs();
  load(begin + threadIdx.x);
  const int position = finish.position[row], sequence = finish.sequence_of[row];
  if (threadIdx.x < kPairs) angle[threadIdx.x] = finish.Angle(finish.Frequency(threadIdx.x, sequence), position);
  const int block = finish.Block(position, sequence);
  __syncthreads();
  // Whole warps go round together: lanes of one head exchange their sums.
  for (int first = begin; first < heads * kLanes; first += gridDim.y * kRowThreads) {
    const int item = first + threadIdx.x, h = min(item / kLanes, heads - 1), offset = item % kLanes * 8;
    if (first > begin) load(item);
    float a[8], b[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float* bias = finish.bias + h * kHeadDim + offset + i;
      a[i] = ToFloat(low.value[i]);
      b[i] = ToFloat(high.value[i]);
      a[i] = finish.Clipped(finish.bias == nullptr ? a[i] : a[i] + bias[0]);
      b[i] = finish.Clipped(finish.bias == nullptr ? b[i] : b[i] + bias[kPairs]);
    }
    const NormView& norm = finish.IsQ(h) ? finish.q_norm : finish.k_norm;
    if (finish.q_norm.weight != nullptr || finish.k_norm.weight != nullptr) {
      float squares = 0;
#pragma unroll
      for (int i = 0; i < 8; ++i) squares += a[i] * a[i] + b[i] * b[i];
#pragma unroll
      for (int lane = kLanes / 2; lane > 0; lane /= 2) squares += __shfl_xor_sync(~0u, squares, lane);
      if (!finish.IsV(h) && norm.weight != nullptr) {
        const float2 statistics{0, rsqrtf(squares / kHeadDim + norm.epsilon)};
        NormVector(norm, statistics, offset, a);
        NormVector(norm, statistics, kPairs + offset, b);
      }
    }
    if (item >= heads * kLanes) continue;
    if (!finish.IsV(h)) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float2 rotated = Rotated(a[i], b[i], angle[offset + i]);
        a[i] = rotated.x;
        b[i] = rotated.y;
      }
    }
    T* to = finish.To<T>(h, row, position, block) + offset;
    Store<8>(a, to);
    Store<8>(b, to + kPairs);
  }
}

// Whether FinishRow takes these arguments.
bool TakesRows(const AttnInArgs& args) {
  const auto simple = [](const Norm& norm) {
    return norm.weight.empty() ||
           (norm.kind == NormKind::kRms && TakesVectors(norm.weight.raw(), 0) && TakesVectors(norm.bias.raw(), 0));
  };
  return args.log_length == 0 && !args.rope.inverse_frequency.empty() &&
         args.rope.inverse_frequency.dim(1) * 2 == args.head_dim && simple(args.q_norm) && simple(args.k_norm) &&
         TakesVectors(args.q.raw(), args.q.stride(0)) && args.q.stride(1) % 8 == 0 && TakesVectors(args.kv.base, 0) &&
         args.kv.block_stride % 16 == 0 && args.kv.head_stride % 16 == 0;
}

}  // namespace

void AttnIn(Context& context, const AttnInArgs& args) {
  const int64_t rows = args.batch.tokens, hidden = args.qkv.k, n = args.qkv.n();
  const DType dtype = args.residual.dtype();
  BERTH_CHECK(args.kv.dtype == dtype) << "KV is " << Info(args.kv.dtype).name << ", want " << Info(dtype).name;
  if (!TakesAdapter(context, args.adapter) && (SplitAttnIn(context, args) || StreamAttnIn(context, args))) return;
  const Tensor normed(context.normed.data(), dtype, {rows, hidden});
  const Tensor product(context.product.data(), dtype, {rows, n});
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  Linear(context, normed, args.qkv, 0, product);
  AddAdapter(context, args.adapter, normed, product);
  const AttnFinish finish = AttnFinish::Of(args);
  WithActivation(dtype, [&](auto type) {
    using T = decltype(type);
    const auto* from = static_cast<const T*>(product.raw());
    const bool whole = TakesRows(args);
    // Few rows are shared out, so that no block goes round twice.
    const int64_t rounds = (n / 16 + kRowThreads - 1) / kRowThreads;
    const dim3 grid(rows, rows <= 4 * context.multiprocessors ? rounds : 1);
    if (whole && args.head_dim == 64) {
      Launch(context, FinishRow<T, 64>, grid, kRowThreads, 0, finish, from, n);
    } else if (whole && args.head_dim == 128) {
      Launch(context, FinishRow<T, 128>, grid, kRowThreads, 0, finish, from, n);
    } else if (whole && args.head_dim == 256) {
      Launch(context, FinishRow<T, 256>, grid, kRowThreads, 0, finish, from, n);
    } else {
      Launch(context, FinishHead<T>, dim3(args.q_heads + 2 * args.kv_heads, rows), 64, args.head_dim * sizeof(float), finish,
             from, n);
    }
  });
}

}  // namespace berth::kernels::cuda
