#include "worker/runtime/kv_cache.h"

#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace berth::runtime {
namespace {

int64_t HeadBytes(const model::AttentionSpec& attention, kernels::DType dtype) {
  return 2 * static_cast<int64_t>(kernels::kKvBlockTokens) * kernels::RowBytes(dtype, attention.head_dim);
}

}  // namespace

size_t KvBlockBytes(const model::DecoderSpec& spec, kernels::DType dtype) {
  size_t bytes = 0;
  for (const model::LayerSpec& layer : spec.layers) bytes += layer.attention.kv_heads * HeadBytes(layer.attention, dtype);
  return bytes;
}

absl::StatusOr<KvCache> KvCache::Create(const model::DecoderSpec& spec, kernels::DType dtype, int blocks,
                                        kernels::Allocator& allocator) {
  const size_t block_bytes = KvBlockBytes(spec, dtype);
  BERTH_ASSIGN_OR_RETURN(kernels::Buffer buffer, allocator.Allocate(blocks * block_bytes));
  KvCache cache(std::move(buffer), blocks);
  std::byte* base = static_cast<std::byte*>(cache.buffer_.data());
  for (const model::LayerSpec& layer : spec.layers) {
    const int64_t head_bytes = HeadBytes(layer.attention, dtype);
    cache.layers_.push_back({.base = base,
                             .dtype = dtype,
                             .kv_heads = layer.attention.kv_heads,
                             .key_dim = layer.attention.head_dim,
                             .value_dim = layer.attention.head_dim,
                             .block_stride = static_cast<int64_t>(block_bytes),
                             .head_stride = head_bytes});
    base += layer.attention.kv_heads * head_bytes;
  }
  return cache;
}

absl::Span<std::byte> KvCache::block(int index) const {
  BERTH_CHECK(index >= 0 && index < blocks_) << "block " << index << " of " << blocks_;
  const size_t bytes = buffer_.bytes() / blocks_;
  return {static_cast<std::byte*>(buffer_.data()) + index * bytes, bytes};
}

}  // namespace berth::runtime
