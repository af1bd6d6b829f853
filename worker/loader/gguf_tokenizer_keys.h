#pragma once

#include "absl/status/statusor.h"
#include "worker/loader/gguf_metadata.h"
#include "worker/loader/gguf_tokenizer.h"

namespace berth::loader {

// The tokenizer.* keys of a GGUF file. INVALID_ARGUMENT names a key with the wrong type or range.
absl::StatusOr<GgufTokenizerMetadata> TranslateGgufTokenizer(const GgufMetadata& metadata);

}  // namespace berth::loader
