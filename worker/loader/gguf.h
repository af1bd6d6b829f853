#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/loader/checkpoint.h"
#include "worker/loader/gguf_metadata.h"
#include "worker/loader/mapped_file.h"

namespace berth::loader {

// A parsed GGUF file, version 3, little-endian (format: the GGUF specification of the ggml project).
struct GgufFile {
  GgufMetadata metadata;
  CheckpointIndex tensors;  // data points into the bytes that were parsed
  size_t metadata_end = 0;  // where the key-value part ends
  size_t data_offset = 0;   // where the header ends and tensor data begins
};

// Trusts nothing in `bytes`. INVALID_ARGUMENT names the key or tensor and the byte offset; UNIMPLEMENTED names a version or a
// tensor type that is not supported.
absl::StatusOr<GgufFile> ParseGguf(absl::Span<const std::byte> bytes);

}  // namespace berth::loader
