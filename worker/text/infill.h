#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/tokenizer.h"

namespace berth::text {

// How a model is asked for the text between two others: `before`, what is in front, `after`, what is behind, `middle`.
struct InfillFormat {
  int32_t before = -1;
  int32_t after = -1;
  int32_t middle = -1;
  int32_t end = -1;         // ends the answer; -1: the model's own end-of-sequence does
  bool adds_space = false;  // the tokenizer puts a space in front of texts, which what is behind must not get
};

// The format whose tokens the vocabulary has: CodeLlama's, Qwen2.5-Coder's and CodeGemma's, StarCoder's, DeepSeek-Coder's.
// Nothing when it has none.
std::optional<InfillFormat> FindInfillFormat(const Tokenizer& tokenizer);

// The prompt's ids, the beginning-of-sequence included where the tokenizer has it in front of texts. Special tokens that are
// written in the texts stay text. INVALID_ARGUMENT when they are not UTF-8.
absl::StatusOr<std::vector<int32_t>> EncodeInfill(const Tokenizer& tokenizer, const InfillFormat& format,
                                                  std::string_view prefix, std::string_view suffix);

}  // namespace berth::text
