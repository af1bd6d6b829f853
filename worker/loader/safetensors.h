#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/loader/checkpoint.h"

namespace berth::loader {

// The tensors of one safetensors file (format: the safetensors project's README); data points into `bytes`. Trusts nothing in
// `bytes`; tensors must cover the data part without gaps or overlaps. INVALID_ARGUMENT names the tensor; UNIMPLEMENTED names a
// type that is not F32, F16 or BF16.
absl::StatusOr<CheckpointIndex> ParseSafetensors(absl::Span<const std::byte> bytes);

// Where the header ends and data begins. `bytes` have been parsed.
size_t SafetensorsDataOffset(absl::Span<const std::byte> bytes);

}  // namespace berth::loader
