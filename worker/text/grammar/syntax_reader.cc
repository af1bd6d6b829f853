#include "worker/text/grammar/syntax_reader.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/text/utf8.h"

namespace berth::text {
namespace {

constexpr int kMaxRepeats = 10'000;

const Grammar::CodePoints kDigits = {{'0', '9'}};
const Grammar::CodePoints kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Grammar::CodePoints kSpace = {{'\t', '\r'}, {' ', ' '}};

}  // namespace

absl::Status SyntaxReader::Error(const std::string& problem) const {
  return absl::InvalidArgumentError(absl::StrCat(what_, ": ", problem, " at byte ", at_));
}

absl::StatusOr<int32_t> SyntaxReader::TakeCharacter() {
  if (AtEnd()) return Error("ends too early");
  const Utf8Char c = FirstUtf8Char(text_.substr(at_));
  if (c.code_point < 0) return Error("not UTF-8");
  at_ += c.size;
  return c.code_point;
}

absl::StatusOr<int32_t> SyntaxReader::TakeHex(int digits) {
  int32_t value = 0;
  for (int i = 0; i < digits; ++i) {
    if (!absl::ascii_isxdigit(Peek())) return Error(absl::StrCat("want ", digits, " hexadecimal digits"));
    const char c = absl::ascii_tolower(Peek());
    value = value * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
    Skip();
  }
  return value;
}

absl::StatusOr<Grammar::CodePoints> SyntaxReader::TakeEscape() {
  int32_t c;
  BERTH_ASSIGN_OR_RETURN(c, TakeCharacter());
  switch (c) {
    case 'd':
      return kDigits;
    case 'D':
      return Grammar::Complement(kDigits);
    case 'w':
      return kWord;
    case 'W':
      return Grammar::Complement(kWord);
    case 's':
      return kSpace;
    case 'S':
      return Grammar::Complement(kSpace);
    case 'n':
      c = '\n';
      break;
    case 't':
      c = '\t';
      break;
    case 'r':
      c = '\r';
      break;
    case 'f':
      c = '\f';
      break;
    case 'v':
      c = '\v';
      break;
    case 'x': {
      BERTH_ASSIGN_OR_RETURN(c, TakeHex(2));
      break;
    }
    case 'u': {
      BERTH_ASSIGN_OR_RETURN(c, TakeHex(4));
      break;
    }
    default:
      if (c < 0x80 && absl::ascii_isalnum(static_cast<char>(c))) {
        return Error(absl::StrCat("\\", std::string(1, static_cast<char>(c)), " is not supported"));
      }
  }
  return Grammar::CodePoints{{c, c}};
}

absl::StatusOr<Grammar::CodePoints> SyntaxReader::TakeClass() {
  const bool negated = Take("^");
  Grammar::CodePoints ranges;
  for (bool first = true; first || Peek() != ']'; first = false) {
    if (AtEnd()) return Error("a class without its ']'");
    if (first && Take("]")) {  // an own member where it comes first
      ranges.push_back({']', ']'});
      continue;
    }
    Grammar::CodePoints one;
    const auto take = [&]() -> absl::Status {
      if (Take("\\")) {
        BERTH_ASSIGN_OR_RETURN(one, TakeEscape());
      } else {
        BERTH_ASSIGN_OR_RETURN(const int32_t c, TakeCharacter());
        one = {{c, c}};
      }
      return absl::OkStatus();
    };
    BERTH_RETURN_IF_ERROR(take());
    const bool single = one.size() == 1 && one[0].first == one[0].second;
    if (single && Peek() == '-' && !StartsWith("-]")) {
      Skip();
      const int32_t low = one[0].first;
      BERTH_RETURN_IF_ERROR(take());
      if (one.size() != 1 || one[0].first != one[0].second || one[0].first < low) return Error("a range out of order");
      one[0].first = low;
    }
    ranges.insert(ranges.end(), one.begin(), one.end());
  }
  Skip();
  return negated ? Grammar::Complement(std::move(ranges)) : ranges;
}

absl::StatusOr<Grammar::ExprId> SyntaxReader::OneOf(Grammar::CodePoints ranges, Grammar& grammar) const {
  const Grammar::ExprId one = grammar.Characters(std::move(ranges));
  if (grammar.MatchesNothing(one)) return Error("no character matches");
  return one;
}

absl::StatusOr<int> SyntaxReader::TakeNumber() {
  int value = 0;
  if (!absl::ascii_isdigit(Peek())) return Error("want a number");
  while (absl::ascii_isdigit(Peek())) {
    value = value * 10 + (Peek() - '0');
    if (value > kMaxRepeats) return Error(absl::StrCat("more than ", kMaxRepeats, " repeats"));
    Skip();
  }
  return value;
}

absl::StatusOr<Grammar::ExprId> SyntaxReader::TakeQuantifiers(Grammar::ExprId part, Grammar& grammar) {
  while (true) {
    if (Take("*")) {
      part = grammar.Repeat(part, 0, -1);
    } else if (Take("+")) {
      part = grammar.Repeat(part, 1, -1);
    } else if (Take("?")) {
      part = grammar.Repeat(part, 0, 1);
    } else if (Take("{")) {
      int least, most;
      BERTH_ASSIGN_OR_RETURN(least, TakeNumber());
      most = least;
      if (Take(",")) {
        most = -1;
        if (Peek() != '}') {
          BERTH_ASSIGN_OR_RETURN(most, TakeNumber());
        }
      }
      if (!Take("}")) return Error("a repeat without its '}'");
      if (most >= 0 && most < least) return Error("a repeat with its limits out of order");
      part = grammar.Repeat(part, least, most);
    } else {
      return part;
    }
  }
}

}  // namespace berth::text
