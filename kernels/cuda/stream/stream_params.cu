#include "kernels/cuda/stream/stream.h"
#include "kernels/cuda/stream/stream_params.h"
#include "kernels/cuda/util/tensor_map.h"

namespace berth::kernels::cuda::stream {
namespace {

static_assert(kFewTokens == kMaxTokens);

bool Normed(const Norm* norm) { return norm != nullptr && !norm->weight.empty(); }

// Of a weight that is larger, products of more than kMaxTokens are left to others: what a kernel's start costs is little there,
// and they have more copies under way. Between M1's largest weight and M2's in docs/performance.md.
constexpr int64_t kLargeBytes = int64_t{96} << 20;

// What both kernels ask of memory and of the norm.
bool TakesInputs(const ProductInputs& inputs) {
  const LinearWeight& weight = inputs.weight;
  if (inputs.tokens > kMaxTokens && weight.n() * weight.k * 2 > kLargeBytes) return false;
  if (weight.segments.size() != 1 || weight.segments[0].dtype != inputs.in.dtype()) return false;
  if (!TakesVectors(weight.segments[0].data, weight.k) || !TakesVectors(inputs.in.raw(), inputs.in.stride(0))) return false;
  const Norm* norm = inputs.norm;
  return !Normed(norm) || (norm->kind == NormKind::kRms && norm->bias.empty() && TakesVectors(norm->weight.raw(), 0));
}

// The weight as [runs, 2, run, k] or [1, 1, rows, k], whose box is a chunk of a tile.
bool MapWeight(const Context& context, const ProductInputs& inputs, LinkProduct& params) {
  const int64_t run = params.run == 0 ? params.rows : params.run, halves = params.run == 0 ? 1 : 2, row_bytes = params.k * 2;
  const MapDimension weight[] = {{params.k / kMapElements, 0, kChunkBytes / 2 / kMapElements},
                                 {run, row_bytes, kTileRows / halves},
                                 {halves, run * row_bytes, halves},
                                 {params.rows / (run * halves), run * halves * row_bytes, 1}};
  return MapTensor(context, CU_TENSOR_MAP_DATA_TYPE_FLOAT64, CU_TENSOR_MAP_SWIZZLE_NONE, inputs.weight.segments[0].data, weight,
                   params.map);
}

// The weight as [runs, groups, 2, 8, k] or [1, 1, 1, rows, k], and the tokens. A row of a box is as wide as the swizzle.
bool MapInputs(const Context& context, const ProductInputs& inputs, WideParams& params) {
  const int64_t row_bytes = params.k * 2, run = params.run;
  const MapDimension inner{params.k, 0, kWideChunk};
  const MapDimension paired[] = {inner,
                                 {kWideGroup, row_bytes, kWideGroup},
                                 {2, run * row_bytes, 2},
                                 {run / kWideGroup, kWideGroup * row_bytes, params.pairs_of_run / kWideGroup},
                                 {params.rows / std::max<int64_t>(2 * run, 1), 2 * run * row_bytes, params.runs_of_tile}};
  const MapDimension plain[] = {
      inner, {params.rows, row_bytes, kWideRows}, {1, row_bytes, 1}, {1, row_bytes, 1}, {1, row_bytes, 1}};
  const MapDimension tokens[] = {inner, {params.tokens, inputs.in.stride(0) * 2, params.padded_tokens}};
  const auto map = [&](const std::byte* data, std::span<const MapDimension> dimensions, CUtensorMap& to) {
    return MapTensor(context, CU_TENSOR_MAP_DATA_TYPE_UINT16, CU_TENSOR_MAP_SWIZZLE_128B, data, dimensions, to);
  };
  return map(inputs.weight.segments[0].data, run == 0 ? plain : paired, params.map) &&
         map(static_cast<const std::byte*>(inputs.in.raw()), tokens, params.token_map);
}

}  // namespace

std::optional<LinkProduct> LinkProductOf(const Context& context, const ProductInputs& inputs) {
  const int64_t k = inputs.weight.k, run = inputs.run;
  if (!context.hopper || context.batch_invariant || inputs.tokens > kMaxTokens || k % 32 != 0) return std::nullopt;
  if (!TakesInputs(inputs) || (Normed(inputs.norm) && NormBytes(k) > kMaxNormBytes)) return std::nullopt;
  LinkProduct product{.rows = static_cast<int>(inputs.weight.n()),
                      .run = static_cast<int>(run),
                      .tiles_of_run = static_cast<int>((run + kTilePairs - 1) / kTilePairs),
                      .tokens = static_cast<int>(inputs.tokens),
                      .k = k,
                      .in = static_cast<const std::byte*>(inputs.in.raw()),
                      .in_stride = inputs.in.stride(0) * 2,
                      .row = static_cast<const int32_t*>(inputs.row.raw()),
                      .norm = inputs.norm == nullptr ? NormView() : NormView::Of(*inputs.norm)};
  product.tiles =
      run == 0 ? (product.rows + kTileRows - 1) / kTileRows : product.rows / (2 * product.run) * product.tiles_of_run;
  if (!MapWeight(context, inputs, product)) return std::nullopt;
  return product;
}

std::optional<WideParams> WideParamsOf(const Context& context, const ProductInputs& inputs) {
  if (!context.hopper || context.batch_invariant || inputs.tokens > kWideMaxTokens || !TakesInputs(inputs)) return std::nullopt;
  if (!inputs.row.empty() || inputs.weight.k % kWideChunk != 0 || inputs.run % kWideGroup != 0) return std::nullopt;
  WideParams params{.k = inputs.weight.k,
                    .rows = static_cast<int>(inputs.weight.n()),
                    .run = static_cast<int>(inputs.run),
                    .tokens = static_cast<int>(inputs.tokens),
                    .norm = inputs.norm == nullptr ? NormView() : NormView::Of(*inputs.norm)};
  while (params.padded_tokens < params.tokens) params.padded_tokens *= 2;
  if (params.run == 0) {
    params.tiles = (params.rows + kWideRows - 1) / kWideRows;
  } else {
    const int runs = params.rows / (2 * params.run);
    params.pairs_of_run = std::min(params.run, kWidePairs);
    params.runs_of_tile = kWidePairs % params.pairs_of_run == 0 ? kWidePairs / params.pairs_of_run : 1;
    params.tiles_of_run = (params.run + kWidePairs - 1) / kWidePairs;
    params.tiles = (runs + params.runs_of_tile - 1) / params.runs_of_tile * params.tiles_of_run;
  }
  params.stages = std::min((kWideSharedBytes - WideFixedBytes(params.padded_tokens)) / WideStageBytes(params.padded_tokens),
                           kWideMaxStages);
  if (!MapInputs(context, inputs, params)) return std::nullopt;
  return params;
}

}  // namespace berth::kernels::cuda::stream
