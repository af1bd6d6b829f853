#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "worker/loader/json_fields.h"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// A file's text as a JSON object; INVALID_ARGUMENT names the file.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, const char* file);

// An added token as tokenizer.json and tokenizer_config.json describe it.
absl::StatusOr<text::AddedToken> ParseAddedToken(const JsonFields& fields, int32_t id);

// What Hugging Face's tokenizer_config.json says, whatever file the vocabulary comes from. INVALID_ARGUMENT names the field.
absl::Status TakeAddedTokensDecoder(const JsonFields& config, text::TokenizerData& data);
// First and last token and the chat template.
absl::Status TakeTokenizerConfig(const JsonFields& config, text::TokenizerData& data);

}  // namespace berth::loader
