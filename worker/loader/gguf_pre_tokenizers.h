#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace berth::loader {

// What a value of tokenizer.ggml.pre stands for: the expressions of the tokenizers that were converted under that name.
struct GgufPreTokenizer {
  absl::Span<const char* const> expressions;  // the text is split by each in turn, matches isolated
  bool nfc = false;                           // the text is normalized first
  bool ignore_merges = false;                 // a word that is a token needs no merges
  bool add_bos = false;                       // unless tokenizer.ggml.add_bos_token says otherwise
};

// Empty stands for "default". INVALID_ARGUMENT when `name` is unknown.
absl::StatusOr<GgufPreTokenizer> FindGgufPreTokenizer(std::string_view name);

}  // namespace berth::loader
