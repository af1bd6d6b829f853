#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/buffer.h"
#include "kernels/dtype.h"
#include "kernels/kv_layout.h"
#include "worker/model/decoder_spec.h"

namespace berth::runtime {

// Bytes of one block of 64 tokens over all layers. `dtype`: kF32, kF16 or kBF16.
size_t KvBlockBytes(const model::DecoderSpec& spec, kernels::DType dtype);

// The memory of all KV blocks, reserved once. The layout is block-major: the layers of one block lie side by side, so that a
// block is one contiguous extent that can be moved, saved or poisoned as a whole.
class KvCache {
 public:
  // RESOURCE_EXHAUSTED when the allocator has no room for `blocks`.
  static absl::StatusOr<KvCache> Create(const model::DecoderSpec& spec, kernels::DType dtype, int blocks,
                                        kernels::Allocator& allocator);

  absl::Span<const kernels::KvLayer> layers() const { return layers_; }
  int blocks() const { return blocks_; }
  // One block's bytes, for tests and transfers.
  absl::Span<std::byte> block(int index) const;

 private:
  KvCache(kernels::Buffer buffer, int blocks) : buffer_(std::move(buffer)), blocks_(blocks) {}

  kernels::Buffer buffer_;
  int blocks_;
  std::vector<kernels::KvLayer> layers_;
};

}  // namespace berth::runtime
