#include "kernels/cuda/stream/stream_params.h"

namespace berth::kernels::cuda::stream {
namespace {

struct Dimension {
  int64_t size, stride, box;  // in elements, bytes, elements
};

// A map of three dimensions behind the rows of `k` activations, of which a box takes `chunk`.
bool Map(const Context& context, const std::byte* data, int64_t k, int chunk, const Dimension (&outer)[3], CUtensorMap& map) {
  cuuint64_t dims[4] = {static_cast<cuuint64_t>(k / kMapElements)}, strides[3];
  cuuint32_t box[4] = {static_cast<cuuint32_t>(chunk / kMapElements)};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  for (int i = 0; i < 3; ++i) {
    dims[i + 1] = outer[i].size;
    strides[i] = outer[i].stride;
    box[i + 1] = static_cast<cuuint32_t>(outer[i].box);
  }
  return context.encode_tiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT64, 4, const_cast<std::byte*>(data), dims, strides, box, steps,
                              CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// The weight as [runs, 2, run, k] or [1, 1, rows, k], whose box is a chunk of a tile, and the tokens.
bool MapInputs(const Context& context, const std::byte* weight, StreamParams& params) {
  const int64_t run = params.run == 0 ? params.rows : params.run, halves = params.run == 0 ? 1 : 2, row_bytes = params.k * 2;
  const int chunk = params.plan.chunk;
  return Map(context, weight, params.k, chunk,
             {{run, row_bytes, kTileRows / halves},
              {halves, run * row_bytes, halves},
              {params.rows / (run * halves), run * halves * row_bytes, 1}},
             params.map) &&
         Map(context, params.in, params.k, chunk,
             {{params.tokens, params.in_stride, params.tokens}, {1, params.in_stride, 1}, {1, params.in_stride, 1}},
             params.token_map);
}

}  // namespace

std::optional<StreamParams> StreamParamsOf(const Context& context, const Tensor& in, const Tensor& row, int64_t tokens,
                                           const Norm* norm, const LinearWeight& weight, int64_t run) {
  if (weight.segments.size() != 1 || weight.segments[0].dtype != in.dtype()) return std::nullopt;
  if (!TakesVectors(weight.segments[0].data, weight.k) || !TakesVectors(in.raw(), in.stride(0))) return std::nullopt;
  const bool normed = norm != nullptr && !norm->weight.empty();
  if (normed && (norm->kind != NormKind::kRms || !norm->bias.empty() || !TakesVectors(norm->weight.raw(), 0))) {
    return std::nullopt;
  }
  StreamParams params{.k = weight.k,
                      .rows = static_cast<int>(weight.n()),
                      .run = static_cast<int>(run),
                      .tiles_of_run = static_cast<int>((run + kTilePairs - 1) / kTilePairs),
                      .tokens = static_cast<int>(tokens),
                      .in = static_cast<const std::byte*>(in.raw()),
                      .in_stride = in.stride(0) * 2,
                      .row = static_cast<const int32_t*>(row.raw()),
                      .norm = norm == nullptr ? NormView() : NormView::Of(*norm)};
  params.tiles = run == 0 ? (params.rows + kTileRows - 1) / kTileRows : params.rows / (2 * params.run) * params.tiles_of_run;
  const std::optional<StreamPlan> plan = PlanStream(context, tokens, weight.k, params.tiles, norm != nullptr);
  if (!plan) return std::nullopt;
  params.plan = *plan;
  if (!MapInputs(context, weight.segments[0].data, params)) return std::nullopt;
  return params;
}

}  // namespace berth::kernels::cuda::stream
