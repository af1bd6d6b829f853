#pragma once

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// The parts of a tokenizer.json around the model. `value` is the top-level field, null when absent. INVALID_ARGUMENT names the
// field that is wrong or not supported.
absl::Status ParseNormalizer(const nlohmann::json& value, text::TokenizerData& data);
absl::Status ParsePreTokenizer(const nlohmann::json& value, text::TokenizerData& data);
absl::Status ParsePostProcessor(const nlohmann::json& value, text::TokenizerData& data);
absl::Status ParseDecoder(const nlohmann::json& value, text::TokenizerData& data);

}  // namespace berth::loader
