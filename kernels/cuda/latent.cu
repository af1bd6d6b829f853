#include "kernels/cuda/attend/sm80.cuh"
#include "kernels/cuda/attn_finish.cuh"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/util/launch.cuh"
#include "kernels/cuda/util/vector.cuh"

namespace berth::kernels::cuda {
namespace {

constexpr int kFinishThreads = 256;

// One row: the latent's norm and rotation on its way to the cache, and the queries' rotated parts. A head of `query` has
// `query_dim` elements. Grid: rows.
template <typename T>
__global__ void FinishLatents(AttnFinish finish, NormView norm, int rank, const float* latent, const T* query, int query_dim) {
  extern __shared__ float2 angle[];
  __shared__ float shared[kFinishThreads / 32];
  LetSuccessorStart();
  WaitForInputs();
  const int row = blockIdx.x, dim = finish.head_dim, rope_dim = dim - rank, pairs = finish.pairs;
  const int position = finish.position[row], sequence = finish.sequence_of[row];
  const int block = finish.Block(position, sequence);
  for (int i = threadIdx.x; i < pairs; i += kFinishThreads) {
    angle[i] = finish.Angle(finish.Frequency(i, sequence), position);
  }
  __syncthreads();
  const float* own = latent + static_cast<int64_t>(row) * dim;
  T* cached = finish.To<T>(finish.q_heads, row, position, block);
  float2 statistics{};
  if (norm.weight != nullptr) statistics = RowStatistics<1>(norm, own, rank, shared);
  for (int i = threadIdx.x; i < rank; i += kFinishThreads) {
    float x[1] = {own[i]};
    if (norm.weight != nullptr) NormVector(norm, statistics, i, x);
    cached[i] = FromFloat<T>(x[0]);
  }
  const T* queries = query + static_cast<int64_t>(row) * finish.q_heads * query_dim;
  for (int item = threadIdx.x; item < (finish.q_heads + 1) * rope_dim; item += kFinishThreads) {
    const int head = item / rope_dim, i = item % rope_dim;
    const auto value = [&](int at) {
      return finish.IsQ(head) ? ToFloat(queries[(head + 1) * query_dim - rope_dim + at]) : own[rank + at];
    };
    float x = value(i);
    if (i < 2 * pairs) {
      const float2 rotated = Rotated(value(i % pairs), value(i % pairs + pairs), angle[i % pairs]);
      x = i < pairs ? rotated.x : rotated.y;
    }
    finish.To<T>(head, row, position, block)[rank + i] = FromFloat<T>(x);
  }
}

// A block of a product: so many tokens, outputs and elements of the sum at a time.
constexpr int kTile = 64;
constexpr int kProductThreads = 128;

// Every head's product with a matrix of its own. Strides in elements.
template <typename T>
struct HeadsParams {
  const T *in, *matrix;
  T* out;
  int64_t in_stride, in_head_stride, matrix_stride, matrix_head_stride, out_stride, out_head_stride;
  int tokens, depth, columns;
};

// A tile of a row-major matrix to shared memory, zeros outside of [rows, columns].
template <int kWidth, typename T>
__device__ void LoadTile(const T* from, int64_t stride, int64_t rows, int64_t columns, std::byte* to) {
  constexpr int kVectors = kTile / kWidth;
#pragma unroll 4
  for (int i = threadIdx.x; i < kTile * kVectors; i += kProductThreads) {
    const int row = i / kVectors, column = i % kVectors * kWidth;
    Vector<T, kWidth> x{};
    if (row < rows && column < columns) x = *reinterpret_cast<const Vector<T, kWidth>*>(from + row * stride + column);
    *reinterpret_cast<Vector<T, kWidth>*>(to + ChunkOffset<kTile>(row, column / 8) + column % 8 * sizeof(T)) = x;
  }
}

// out[token, head] = matrix of the head · in[token, head], where the matrix has a row per output (kRowPerOutput) or per element
// of `in`. Every sum runs in one order, whatever the number of tokens. Grid: (columns, heads, tokens) in tiles.
template <typename T, int kWidth, bool kRowPerOutput>
__global__ void __launch_bounds__(kProductThreads) HeadsProduct(const __grid_constant__ HeadsParams<T> params) {
  __shared__ __align__(128) std::byte in_tile[kTile * kTile * sizeof(T)], matrix_tile[kTile * kTile * sizeof(T)];
  LetSuccessorStart();
  WaitForInputs();
  const int column = blockIdx.x * kTile, head = blockIdx.y, token = blockIdx.z * kTile;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const T* in = params.in + token * params.in_stride + head * params.in_head_stride;
  const T* matrix = params.matrix + head * params.matrix_head_stride;
  const uint32_t in_rows = SharedAddress(in_tile), matrix_rows = SharedAddress(matrix_tile);
  float sum[kTile / 8][4] = {};
  for (int k = 0; k < params.depth; k += kTile) {
    LoadTile<kWidth>(in + k, params.in_stride, params.tokens - token, params.depth - k, in_tile);
    if constexpr (kRowPerOutput) {
      LoadTile<kWidth>(matrix + column * params.matrix_stride + k, params.matrix_stride, params.columns - column,
                       params.depth - k, matrix_tile);
    } else {
      LoadTile<kWidth>(matrix + k * params.matrix_stride + column, params.matrix_stride, params.depth - k,
                       params.columns - column, matrix_tile);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kTile / 16; ++i) {
      uint32_t a[4];
      LoadMatrices(a, in_rows + ChunkOffset<kTile>(warp * 16 + lane % 16, 2 * i + lane / 16));
#pragma unroll
      for (int n = 0; n < kTile / 8; n += 2) {
        uint32_t b[4];
        if constexpr (kRowPerOutput) {
          LoadMatrices(b, matrix_rows + ChunkOffset<kTile>(n * 8 + lane % 8 + lane / 16 * 8, 2 * i + lane / 8 % 2));
        } else {
          LoadMatricesTransposed(b, matrix_rows + ChunkOffset<kTile>(i * 16 + lane % 16, n + lane / 16));
        }
        Mma<T>(sum[n], a, b[0], b[1]);
        Mma<T>(sum[n + 1], a, b[2], b[3]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) {
    for (int i = 0; i < 4; ++i) {
      const int at = token + warp * 16 + lane / 4 + i / 2 * 8, own_column = column + n * 8 + lane % 4 * 2 + i % 2;
      if (at >= params.tokens || own_column >= params.columns) continue;
      params.out[at * params.out_stride + head * params.out_head_stride + own_column] = FromFloat<T>(sum[n][i]);
    }
  }
}

// `in` and `out` are [tokens, heads, …]; head h's matrix is rows [h head_rows + first, … + rows) of `up`, a row per output if
// `row_per_output`.
void MultiplyHeads(Context& context, const Tensor& in, const LinearWeight& up, int64_t head_rows, int64_t first, int64_t rows,
                   bool row_per_output, const Tensor& out) {
  BERTH_CHECK(up.segments.size() == 1 && up.segments.front().dtype == in.dtype())
      << "latents' weight in " << up.segments.size() << " pieces of " << Info(up.segments.front().dtype).name
      << ", want one of " << Info(in.dtype()).name;
  WithActivation(in.dtype(), [&](auto type) {
    using T = decltype(type);
    const HeadsParams<T> params{.in = static_cast<const T*>(in.raw()),
                                .matrix = reinterpret_cast<const T*>(up.segments.front().data) + first * up.k,
                                .out = static_cast<T*>(out.raw()),
                                .in_stride = in.stride(0),
                                .in_head_stride = in.stride(1),
                                .matrix_stride = up.k,
                                .matrix_head_stride = head_rows * up.k,
                                .out_stride = out.stride(0),
                                .out_head_stride = out.stride(1),
                                .tokens = static_cast<int>(in.dim(0)),
                                .depth = static_cast<int>(row_per_output ? up.k : rows),
                                .columns = static_cast<int>(row_per_output ? rows : up.k)};
    const bool vectors = TakesVectors(params.in, params.in_stride) && params.in_head_stride % 8 == 0 &&
                         TakesVectors(params.matrix, params.matrix_stride) && rows % 8 == 0;
    const auto kernel = row_per_output ? (vectors ? HeadsProduct<T, 8, true> : HeadsProduct<T, 1, true>)
                                       : (vectors ? HeadsProduct<T, 8, false> : HeadsProduct<T, 1, false>);
    const dim3 grid((params.columns + kTile - 1) / kTile, in.dim(1), (params.tokens + kTile - 1) / kTile);
    Launch(context, kernel, grid, kProductThreads, 0, params);
  });
}

// The first `dim` elements of every head.
Tensor HeadsOf(const Tensor& tensor, int64_t dim) {
  return Tensor(tensor.raw(), tensor.dtype(), {tensor.dim(0), tensor.dim(1), dim}, {tensor.stride(0), tensor.stride(1), 1});
}

// Places of 16-byte alignment in the product's memory.
class ProductMemory {
 public:
  explicit ProductMemory(Context& context) : next_(static_cast<std::byte*>(context.product.data())) {}
  Tensor Take(DType dtype, int64_t rows, int64_t columns) {
    const Tensor tensor(next_, dtype, {rows, columns});
    next_ += (rows * RowBytes(dtype, columns) + 15) / 16 * 16;
    return tensor;
  }

 private:
  std::byte* next_;
};

}  // namespace

void LatentIn(Context& context, const LatentInArgs& args) {
  const int64_t rows = args.batch.tokens, hidden = args.latent.k, query_dim = args.q.n() / args.heads;
  const DType dtype = args.residual.dtype();
  BERTH_CHECK(args.kv.dtype == dtype) << "KV is " << Info(args.kv.dtype).name << ", want " << Info(dtype).name;
  ProductMemory memory(context);
  const Tensor normed(context.normed.data(), dtype, {rows, hidden}), latent = memory.Take(DType::kF32, rows, args.kv.key_dim);
  const Tensor query = memory.Take(dtype, rows, args.q.n());
  NormRows(context, args.norm, args.residual, Tensor(), normed);
  Linear(context, normed, args.latent, 0, latent);
  if (args.q_down.empty()) {
    Linear(context, normed, args.q, 0, query);
  } else {
    const Tensor down = memory.Take(dtype, rows, args.q_down.n());
    Linear(context, normed, args.q_down, 0, down);
    NormRows(context, args.q_down_norm, down, Tensor(), down);
    Linear(context, down, args.q, 0, query);
  }
  const AttnFinish finish = AttnFinish::Of({.rope = args.rope,
                                            .q_heads = args.heads,
                                            .kv_heads = 1,
                                            .head_dim = args.kv.key_dim,
                                            .batch = args.batch,
                                            .kv = args.kv,
                                            .q = args.q_out});
  WithActivation(dtype, [&](auto type) {
    using T = decltype(type);
    Launch(context, FinishLatents<T>, rows, kFinishThreads, finish.pairs * sizeof(float2), finish,
           NormView::Of(args.latent_norm), args.rank, latent.data<float>(), static_cast<const T*>(query.raw()), query_dim);
  });
  const Tensor heads(query.raw(), dtype, {rows, args.heads, query_dim});
  MultiplyHeads(context, HeadsOf(heads, args.key_dim), args.up, args.key_dim + args.value_dim, 0, args.key_dim,
                /*row_per_output=*/false, HeadsOf(args.q_out, args.rank));
}

void LatentOut(Context& context, const LatentOutArgs& args) {
  MultiplyHeads(context, args.in, args.up, args.key_dim + args.value_dim, args.key_dim, args.value_dim,
                /*row_per_output=*/true, args.out);
}

}  // namespace berth::kernels::cuda
