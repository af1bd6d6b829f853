#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// `tokenizer_json`: the file of PyPI tokenizers, with a BPE or Unigram model. `tokenizer_config_json`: of Hugging Face, for the
// names of the first and last token, add_bos_token (Llama's and Gemma's classes) and the chat template; empty: none.
// INVALID_ARGUMENT names the field that is wrong or not supported.
absl::StatusOr<text::TokenizerData> ParseTokenizerJson(std::string_view tokenizer_json, std::string_view tokenizer_config_json);

// `model`: the bytes of a tokenizer.model of SentencePiece. `tokenizer_config_json`: as above; also added tokens,
// add_bos_token, add_eos_token and legacy (Llama, InternLM, Baichuan),
// and the tokenizer_class ChatGLMTokenizer, whose special tokens its Python code adds.
absl::StatusOr<text::TokenizerData> ParseSentencePiece(std::string model, std::string_view tokenizer_config_json);

}  // namespace berth::loader
