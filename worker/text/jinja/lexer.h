#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace berth::text::jinja {

enum class TokenKind {
  kText,
  kPrintBegin,
  kPrintEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // of kText and kString: the value; of names, numbers and operators: as written (numbers without '_')
};

// Splits a template into tokens, white space between blocks already treated as Hugging Face sets it up (trim_blocks and
// lstrip_blocks on, one trailing newline dropped), comments gone and raw blocks turned into text. The last token is kEnd.
// INVALID_ARGUMENT names the line of an unclosed block, comment or string, or of a character that cannot start a token.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

absl::Status ErrorAtLine(int line, std::string_view message);

}  // namespace berth::text::jinja
