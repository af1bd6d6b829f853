#include "worker/runtime/kv_cache.h"

#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace berth::runtime {
namespace {

int64_t LayerBytes(const model::AttentionSpec& attention, kernels::DType dtype) {
  return static_cast<int64_t>(kernels::RowBytes(dtype, kernels::kKvBlockTokens * attention.kv_elements()));
}

}  // namespace

size_t KvBlockBytes(const model::DecoderSpec& spec, kernels::DType dtype) {
  size_t bytes = 0;
  for (const model::LayerSpec& layer : spec.layers) bytes += LayerBytes(layer.attention, dtype);
  return bytes;
}

absl::StatusOr<KvCache> KvCache::Create(const model::DecoderSpec& spec, kernels::DType dtype, int blocks,
                                        kernels::Allocator& allocator) {
  const size_t block_bytes = KvBlockBytes(spec, dtype);
  BERTH_ASSIGN_OR_RETURN(kernels::Buffer buffer, allocator.Allocate(blocks * block_bytes));
  KvCache cache(std::move(buffer), blocks);
  std::byte* base = static_cast<std::byte*>(cache.buffer_.data());
  for (const model::LayerSpec& layer : spec.layers) {
    const model::AttentionSpec& attention = layer.attention;
    const int64_t layer_bytes = LayerBytes(attention, dtype);
    const bool latent = attention.latent.rank > 0;
    cache.layers_.push_back({.base = base,
                             .dtype = dtype,
                             .kv_heads = attention.kv_heads,
                             .key_dim = attention.head_dim,
                             .value_dim = latent ? attention.latent.rank : attention.head_dim,
                             .values_in_keys = latent,
                             .block_stride = static_cast<int64_t>(block_bytes),
                             .head_stride = layer_bytes / attention.kv_heads});
    base += layer_bytes;
  }
  return cache;
}

absl::Span<std::byte> KvCache::block(int index) const {
  BERTH_CHECK(index >= 0 && index < blocks_) << "block " << index << " of " << blocks_;
  const size_t bytes = buffer_.bytes() / blocks_;
  return {static_cast<std::byte*>(buffer_.data()) + index * bytes, bytes};
}

}  // namespace berth::runtime
