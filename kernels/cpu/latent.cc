#include <algorithm>

#include "kernels/cpu/attn_row.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels::cpu {
namespace {

// One head's rows of a tensor [tokens, heads, dim].
Tensor HeadRows(const Tensor& tensor, int64_t head) {
  return Tensor(tensor.data<float>() + head * tensor.stride(1), DType::kF32, {tensor.dim(0), tensor.dim(2)},
                {tensor.stride(0), 1});
}

Tensor Queries(Context& context, const LatentInArgs& args, const Tensor& normed) {
  const int64_t rows = normed.dim(0), n = args.q.n();
  const Tensor query(context.product.Get(rows * n), DType::kF32, {rows, n});
  if (args.q_down.empty()) {
    Linear(context, normed, args.q, Tensor(), query);
    return query;
  }
  const int64_t q_rank = args.q_down.n();
  const Tensor down(context.row.Get(rows * q_rank), DType::kF32, {rows, q_rank});
  Linear(context, normed, args.q_down, Tensor(), down);
  ForRows(context, rows, [&](int64_t r, int) {
    float* row = down.data<float>() + r * q_rank;
    NormRow(args.q_down_norm, row, row, q_rank);
  });
  Linear(context, down, args.q, Tensor(), query);
  return query;
}

// The latent's norm and rotation and its place in the cache; the rotated parts of the row's queries.
void FinishRow(const LatentInArgs& args, int64_t r, const float* query, float* latent, float* angles) {
  const int64_t rope_dim = args.kv.key_dim - args.rank, pairs = RopeAngles(args.rope, args.batch, r, angles);
  NormRow(args.latent_norm, latent, latent, args.rank);
  Rotate(latent + args.rank, pairs, angles);
  const auto [block, token] = PlaceOf(args.batch, r);
  const size_t offset = token * RowBytes(args.kv.dtype, args.kv.key_dim);
  StoreKv(latent, args.kv.dtype, args.kv.key_dim, args.kv.Keys(block, 0) + offset);
  for (int h = 0; h < args.heads; ++h) {
    float* rotated = args.q_out.data<float>() + r * args.q_out.stride(0) + h * args.q_out.stride(1) + args.rank;
    std::copy_n(query + h * (args.key_dim + rope_dim) + args.key_dim, rope_dim, rotated);
    Rotate(rotated, pairs, angles);
  }
}

// q_out[h] = Σ_i q[h][i] key row i of head h, in rising order of i, for all rows.
void ToLatents(const LatentInArgs& args, int64_t head, const Tensor& query, float* key) {
  const int64_t head_dim = args.q.n() / args.heads;
  const Tensor out = HeadRows(args.q_out, head);
  for (int64_t r = 0; r < out.dim(0); ++r) std::fill_n(out.data<float>() + r * out.stride(0), args.rank, 0.f);
  for (int64_t i = 0; i < args.key_dim; ++i) {
    const LinearWeight row = args.up.Rows(head * (args.key_dim + args.value_dim) + i, 1);
    DequantizeRow(row.segments[0].dtype, row.segments[0].data, key, args.rank);
    for (int64_t r = 0; r < out.dim(0); ++r) {
      const float weight = query.data<float>()[r * query.stride(0) + head * head_dim + i];
      float* to = out.data<float>() + r * out.stride(0);
      for (int64_t j = 0; j < args.rank; ++j) to[j] += weight * key[j];
    }
  }
}

}  // namespace

void LatentIn(Context& context, const LatentInArgs& args) {
  const int64_t rows = args.batch.tokens, dim = args.kv.key_dim;
  const Tensor normed = NormRows(context, args.norm, args.residual);
  const Tensor query = Queries(context, args, normed);
  const Tensor latent(context.latent.Get(rows * dim), DType::kF32, {rows, dim});
  Linear(context, normed, args.latent, Tensor(), latent);
  ForRows(context, rows, [&](int64_t r, int thread) {
    FinishRow(args, r, query.data<float>() + r * query.stride(0), latent.data<float>() + r * dim,
              context.thread[thread].Get(dim));
  });
  context.pool.Run(args.heads, [&](int head, int thread) { ToLatents(args, head, query, context.thread[thread].Get(dim)); });
}

void LatentOut(Context& context, const LatentOutArgs& args) {
  for (int64_t h = 0; h < args.in.dim(1); ++h) {
    const int64_t first = h * (args.key_dim + args.value_dim) + args.key_dim;
    Linear(context, HeadRows(args.in, h), args.up.Rows(first, args.value_dim), Tensor(), HeadRows(args.out, h));
  }
}

}  // namespace berth::kernels::cpu
