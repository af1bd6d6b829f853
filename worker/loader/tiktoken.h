#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// True for a tokenizer.model that is a file of tiktoken and not of SentencePiece: the tokenizer_class ChatGLM4Tokenizer.
bool IsTiktokenConfig(std::string_view tokenizer_config_json);

// `ranks`: the lines "BASE64 RANK" of a tiktoken file. What such a file leaves to Python code (the words, the special tokens,
// the prefix) is here by tokenizer_class: QWenTokenizer (also without a tokenizer_config.json) and ChatGLM4Tokenizer.
// INVALID_ARGUMENT names the line or the field.
absl::StatusOr<text::TokenizerData> ParseTiktoken(std::string_view ranks, std::string_view tokenizer_config_json);

}  // namespace berth::loader
