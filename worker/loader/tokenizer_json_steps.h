#pragma once

#include "absl/status/status.h"
#include "worker/loader/json_fields.h"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// The parts of a tokenizer.json around the model, each a field of `root`. INVALID_ARGUMENT names the field that is wrong or not
// supported.
absl::Status ParseNormalizer(const JsonFields& root, text::TokenizerData& data);
absl::Status ParsePreTokenizer(const JsonFields& root, text::TokenizerData& data);
absl::Status ParsePostProcessor(const JsonFields& root, text::TokenizerData& data);
absl::Status ParseDecoder(const JsonFields& root, text::TokenizerData& data);

}  // namespace berth::loader
