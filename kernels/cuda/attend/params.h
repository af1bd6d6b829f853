#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/context.h"
#include "kernels/dtype.h"
#include "kernels/kv_layout.h"

namespace berth::kernels::cuda {

// AttendArgs as kernels take them. Strides are in elements unless they say bytes.
struct AttendParams {
  const void* q;
  void* out;
  int64_t q_stride, q_head_stride, out_stride, out_head_stride;
  const int32_t *position, *sequence_of, *query_start, *context_length, *block_table;
  int64_t block_table_stride;
  KvLayer kv;
  int rows;   // of q and out
  int group;  // query heads per kv head
  float scale, softcap;
  int window;
  const float* alibi_slope;
};

// Which entries of the batch a kernel serves, and how many rows they have together.
struct AttendEntries {
  int first = 0;
  int count = 0;
  int rows = 0;
  // The kernel queued ahead is decode attention, which lets this one start once queries, keys and values are there: its blocks
  // take the multiprocessors that are done first, and wait at their end, so that who waits for them waits for both.
  bool inputs_ready = false;
};

// Query heads that one tensor core tile of the decode kernel takes.
inline constexpr int kDecodeHeads = 8;
// 1 << shift tokens of a chunk fill such a tile as well as they can, for groups that fit it.
inline int DecodeTileShift(int group) { return group <= 1 ? 3 : group == 2 ? 2 : group <= 4 ? 1 : 0; }

// Head sizes that the tensor core kernels know: calls `use` with the size as an integral constant. False if it is none of them.
template <typename Use>
bool WithTensorCoreHead(int64_t dim, Use use) {
  const auto is = [&](auto size) {
    if (dim != size) return false;
    use(size);
    return true;
  };
  return is(std::integral_constant<int, 64>()) || is(std::integral_constant<int, 96>()) ||
         is(std::integral_constant<int, 128>()) || is(std::integral_constant<int, 256>());
}
inline bool IsTensorCoreHead(int64_t dim) {
  return WithTensorCoreHead(dim, [](auto) {});
}

// One row per entry: entry i is row i. Key and value heads have one of the sizes above, all rows start on 16 bytes. The launch
// depends on no length. Lengths, block tables, and keys and values of all positions but the newest may be read before the
// kernels queued ahead are done: they come from before the last copy in the stream.
// Where blocks begin is planned at the first call for a batch of that number (Batch::number) and read by the others.
// With `chunks` entries have any number of rows, of groups of at most kDecodeHeads and without a window, and the positions that
// the batch writes are the newest; every 1 << DecodeTileShift tokens cost as much as a decode row.
template <typename T>
void AttendDecode(Context& context, const AttendParams& params, uint64_t batch_number, int entries, bool chunks);

// Entries of any number of rows. Same conditions.
template <typename T>
void AttendPrefill(Context& context, const AttendParams& params, const AttendEntries& entries);

// As AttendPrefill, for compute capability 9.0, heads of 128 in groups of at most 128, and blocks and heads of the pool that
// lie whole rows apart.
template <typename T>
void AttendPrefillSm90(Context& context, const AttendParams& params, const AttendEntries& entries);

inline constexpr int kLatentKeyDim = 576, kLatentValueDim = 512;
// Attention over latents: one kv head with keys whose beginning is the value, of these sizes, all rows on 16 bytes. Decode
// entries come first, as of AttendDecode, then chunks.
bool FitsLatent(const Context& context, const AttendParams& params);
template <typename T>
void AttendLatents(Context& context, const AttendParams& params, int decode_entries, const AttendEntries& chunks);
size_t LatentPartBytes(const Context& context);  // of memory that its decode kernels hand parts of rows over in
void* LatentParts(const Context& context);

// Every head size up to kMaxKeyDim and kMaxValueDim, all rows.
template <typename T>
void AttendGeneric(Context& context, const AttendParams& params);

}  // namespace berth::kernels::cuda
