#include <algorithm>

#include "kernels/cuda/attend/latent.cuh"
#include "kernels/cuda/cuda_ops.h"

namespace berth::kernels::cuda {

size_t LatentPartBytes(const Context& context) { return sizeof(LatentPart) * kLatentPartsPerBlock * context.multiprocessors; }

bool FitsLatent(const Context& context, const AttendParams& params) {
  return params.kv.values_in_keys && params.kv.kv_heads == 1 &&
         HasTunedAttention(params.kv.key_dim, params.kv.value_dim, true) && params.window == 0 && params.softcap == 0 &&
         params.alibi_slope == nullptr && context.shared_bytes >= LatentShape::kSharedBytes;
}

template <typename T>
void AttendLatents(Context& context, const AttendParams& params, int decode_entries, const AttendEntries& chunks) {
  using Shape = LatentShape;
  if (decode_entries > 0) {
    const DecodeParams decode{.attend = params,
                              .entries = decode_entries,
                              .kv_heads = 1,
                              .slices = (params.group + Shape::kRows - 1) / Shape::kRows,
                              .starts = nullptr,
                              .parts = nullptr};
    auto* parts = static_cast<LatentPart*>(LatentParts(context));
    const int blocks = context.multiprocessors;
    Launch(context, LatentDecode<T>, blocks, Shape::kThreads, Shape::kSharedBytes, decode, parts);
    const int rows = std::min(params.group, Shape::kRows);
    Launch(context, CombineLatents<T>, dim3(decode_entries * decode.slices, (rows + kCombineRows - 1) / kCombineRows),
           kCombineThreads, 0, decode, parts, blocks);
  }
  if (chunks.count > 0) {
    const int64_t tiles = int64_t{chunks.rows} * params.group / Shape::kRows + chunks.count;
    Launch(context, LatentPrefill<T>, tiles, Shape::kThreads, Shape::kSharedBytes, params, chunks);
  }
}

template void AttendLatents<__nv_bfloat16>(Context& context, const AttendParams& params, int decode_entries,
                                           const AttendEntries& chunks);
template void AttendLatents<__half>(Context& context, const AttendParams& params, int decode_entries,
                                    const AttendEntries& chunks);

}  // namespace berth::kernels::cuda
