#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace berth::kernels {

// Tokens per KV block, the unit of paging, sharing and hashing everywhere.
inline constexpr int kKvBlockTokens = 64;

// How one layer's keys and values lie inside the pool. Block b, kv head h:
//   K[token][key_dim]   at base + b * block_stride + h * head_stride
//   V[token][value_dim] right behind the 64 keys, or the beginning of each key (values_in_keys).
// Only KV write, attend and a debug read compute such addresses.
struct KvLayer {
  std::byte* base = nullptr;
  DType dtype = DType::kF32;  // kF32, kF16 or kBF16
  int kv_heads = 0;
  int key_dim = 0;
  int value_dim = 0;
  bool values_in_keys = false;
  int64_t block_stride = 0;  // bytes
  int64_t head_stride = 0;   // bytes

  std::byte* Keys(int64_t block, int head) const { return base + block * block_stride + head * head_stride; }
  std::byte* Values(int64_t block, int head) const {
    const int64_t keys = values_in_keys ? 0 : kKvBlockTokens;
    return Keys(block, head) + keys * static_cast<int64_t>(RowBytes(dtype, key_dim));
  }
  // Elements from one token's value to the next one's.
  int value_stride() const { return values_in_keys ? key_dim : value_dim; }
};

}  // namespace berth::kernels
