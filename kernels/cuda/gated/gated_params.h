#pragma once

#include <cuda.h>

#include <cstdint>

namespace berth::kernels::cuda::gated {

// out [tokens, inter] = silu(in · gateᵀ + bias) * (in · upᵀ + bias). The weight is [2 * inter, k]: gate rows, then up rows.
// Or best [tokens]: the largest of in · weightᵀ among the first `ids` and its row, see util/best.cuh.
struct GatedParams {
  CUtensorMap tokens;                   // boxes of what one block copies of a tile's tokens, kStep elements wide
  CUtensorMap smaller;                  // the same of tiles with a group less, where there are any
  CUtensorMap tail;                     // the same of the last tokens, where they are no whole tile
  CUtensorMap weight;                   // boxes of half a tile's rows
  int steps;                            // along K
  int token_units, width_units, units;  // what a cluster walks through, see Walk::TileOf
  int smaller_units;                    // of token_units the last ones
  int64_t token_count, inter;
  const float* bias;  // or null
  void* out;
  int64_t out_stride;
  uint64_t* best;
  int ids;
  bool once;  // a cluster reads its part of the weight for all tokens
};

}  // namespace berth::kernels::cuda::gated
