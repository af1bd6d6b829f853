#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/text/grammar/grammar.h"

namespace berth::text {

// A cursor over a pattern or a grammar, and the pieces that both syntaxes share. `what` begins its errors.
class SyntaxReader {
 public:
  SyntaxReader(const char* what, std::string_view text) : what_(what), text_(text) {}

  bool AtEnd() const { return at_ == text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  bool StartsWith(std::string_view prefix) const { return text_.substr(at_, prefix.size()) == prefix; }
  bool Take(std::string_view prefix) {
    if (!StartsWith(prefix)) return false;
    at_ += prefix.size();
    return true;
  }
  void Skip() { ++at_; }

  // The next character's code point.
  absl::StatusOr<int32_t> TakeCharacter();
  // What follows a backslash: one character, or the ranges of a class (\d, \W, …).
  absl::StatusOr<Grammar::CodePoints> TakeEscape();
  // The rest of a class after its '['.
  absl::StatusOr<Grammar::CodePoints> TakeClass();
  // One of the characters that were taken last; an error when there is none, as in [^\s\S].
  absl::StatusOr<Grammar::ExprId> OneOf(Grammar::CodePoints ranges, Grammar& grammar) const;
  // * + ? {m} {m,} {m,n} after `part`, as many as there are.
  absl::StatusOr<Grammar::ExprId> TakeQuantifiers(Grammar::ExprId part, Grammar& grammar);

  absl::Status Error(const std::string& problem) const;

 private:
  absl::StatusOr<int> TakeNumber();
  absl::StatusOr<int32_t> TakeHex(int digits);

  const char* what_;
  std::string_view text_;
  size_t at_ = 0;
};

// Groups deeper than this are refused.
inline constexpr int kMaxSyntaxDepth = 200;

}  // namespace berth::text
