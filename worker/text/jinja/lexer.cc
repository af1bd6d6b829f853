#include "worker/text/jinja/lexer.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/ascii.h"
#include "base/status.h"
#include "base/utf8.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/unicode.h"

namespace berth::text::jinja {
namespace {

// One newline for all conventions, and none at the very end.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80; }
bool IsNameChar(char c) { return IsNameStart(c) || absl::ascii_isdigit(c); }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (at_ < source_.size()) BERTH_RETURN_IF_ERROR(TextAndTag());
    Add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool At(std::string_view text) const { return rest().starts_with(text); }

  void Add(TokenKind kind, std::string_view text) { tokens_.push_back({kind, line_, std::string(text)}); }

  void AddText(std::string_view text) {
    if (!text.empty()) Add(TokenKind::kText, text);
  }

  void Advance(size_t bytes) {
    line_ += static_cast<int>(std::count(source_.begin() + at_, source_.begin() + at_ + bytes, '\n'));
    at_ += bytes;
  }

  // Steps over a tag's end `close` ("%}", "}}" or "#}") with its sign, which is not part of the tag's inside, and over the
  // white space it swallows. False when the end is not here.
  bool TakeEnd(std::string_view close, bool trims_newline) {
    size_t length = 0;
    bool strip = false, keep = false;
    if (At(Cat("-", close))) {
      strip = true;
      length = 1;
    } else if (trims_newline && At(Cat("+", close))) {
      keep = true;
      length = 1;
    } else if (!At(close)) {
      return false;
    }
    length += close.size();
    const size_t start = at_;
    Advance(length);
    if (strip) {
      Advance(rest().size() - StripLeft(rest()).size());
    } else if (trims_newline && !keep && At("\n")) {
      Advance(1);
    }
    at_line_start_ = at_ > start && source_[at_ - 1] == '\n';
    return true;
  }

  // The text before a tag that begins at `tag`, less what the tag's sign and lstrip_blocks take away.
  std::string_view TextBefore(std::string_view text, char sign, bool lstrip) const {
    if (sign == '-') return StripRight(text);
    if (sign == '+' || !lstrip) return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if ((line > 0 || at_line_start_) && StripLeft(text.substr(line)).empty()) return text.substr(0, line);
    return text;
  }

  absl::Status TextAndTag() {
    size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos) {
        AddText(rest());
        at_ = source_.size();
        return absl::OkStatus();
      }
      if (tag + 1 < source_.size() && (source_[tag + 1] == '{' || source_[tag + 1] == '%' || source_[tag + 1] == '#')) break;
      ++tag;
    }
    const char type = source_[tag + 1];
    const char next = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    const char sign = next == '-' || next == '+' ? next : ' ';
    const std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    AddText(TextBefore(text, sign, type != '{'));
    Advance(tag + 2 - at_);
    if (sign != ' ') Advance(1);
    at_line_start_ = false;
    if (type == '#') return Comment();
    if (type == '{') return Inside(TokenKind::kPrintBegin, TokenKind::kPrintEnd, "}}");
    if (TakeRawBegin()) return Raw();
    return Inside(TokenKind::kBlockBegin, TokenKind::kBlockEnd, "%}");
  }

  absl::Status Comment() {
    const int line = line_;
    while (at_ < source_.size()) {
      if (TakeEnd("#}", true)) return absl::OkStatus();
      Advance(1);
    }
    return ErrorAtLine(line, "missing end of comment");
  }

  bool TakeRawBegin() {
    std::string_view inside = StripLeft(rest());
    if (!inside.starts_with("raw")) return false;
    inside = StripLeft(inside.substr(3));
    if (!inside.starts_with("%}") && !inside.starts_with("-%}")) return false;
    Advance(rest().size() - inside.size());
    return TakeEnd("%}", false);
  }

  absl::Status Raw() {
    const int line = line_;
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 1)) {
      std::string_view inside = std::string_view(source_).substr(tag + 2);
      const char sign = !inside.empty() && (inside[0] == '-' || inside[0] == '+') ? inside[0] : ' ';
      if (sign != ' ') inside.remove_prefix(1);
      inside = StripLeft(inside);
      if (!inside.starts_with("endraw")) continue;
      inside = StripLeft(inside.substr(6));
      if (!inside.starts_with("%}") && !inside.starts_with("-%}") && !inside.starts_with("+%}")) continue;
      AddText(TextBefore(std::string_view(source_).substr(at_, tag - at_), sign, true));
      Advance(rest().size() - inside.size());
      TakeEnd("%}", true);
      return absl::OkStatus();
    }
    return ErrorAtLine(line, "missing end of raw block");
  }

  absl::Status Inside(TokenKind begin, TokenKind end, std::string_view close) {
    const int line = line_;
    Add(begin, "");
    std::string open;  // brackets not closed yet
    while (at_ < source_.size()) {
      const int end_line = line_;
      if (open.empty() && TakeEnd(close, end == TokenKind::kBlockEnd)) {
        tokens_.push_back({end, end_line, ""});
        return absl::OkStatus();
      }
      BERTH_RETURN_IF_ERROR(OneToken(open));
    }
    return ErrorAtLine(line, Cat("missing '", close, "'"));
  }

  absl::Status OneToken(std::string& open) {
    const size_t space = rest().size() - StripLeft(rest()).size();
    if (space > 0) {
      Advance(space);
      return absl::OkStatus();
    }
    const char c = source_[at_];
    if (c == '"' || c == '\'') return String(c);
    if (absl::ascii_isdigit(c)) return Number();
    if (IsNameStart(c)) {
      size_t length = 1;
      while (at_ + length < source_.size() && IsNameChar(source_[at_ + length])) ++length;
      Add(TokenKind::kName, rest().substr(0, length));
      Advance(length);
      return absl::OkStatus();
    }
    return Operator(open);
  }

  absl::Status Operator(std::string& open) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                                      "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (std::string_view op : kOperators) {
      if (!At(op)) continue;
      if (op == "(" || op == "[" || op == "{") open += op == "(" ? ')' : op == "[" ? ']' : '}';
      if (op == ")" || op == "]" || op == "}") {
        if (open.empty() || open.back() != op[0]) return ErrorAtLine(line_, Cat("unexpected '", op, "'"));
        open.pop_back();
      }
      Add(TokenKind::kOperator, op);
      Advance(op.size());
      return absl::OkStatus();
    }
    return ErrorAtLine(line_, Cat("unexpected character '", CodePoints(rest().substr(0, 4))[0], "'"));
  }

  // Digits with single underscores between them, from `from` on.
  size_t Digits(size_t from) const {
    size_t end = from;
    while (end < source_.size() &&
           (absl::ascii_isdigit(source_[end]) ||
            (end > from && source_[end] == '_' && end + 1 < source_.size() && absl::ascii_isdigit(source_[end + 1])))) {
      ++end;
    }
    return end;
  }

  absl::Status Number() {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    size_t end = Digits(at_);
    bool is_float = false;
    if (end == at_ + 1 && source_[at_] == '0' && end < source_.size() &&
        std::string_view("xXoObB").find(source_[end]) != std::string_view::npos) {
      return ErrorAtLine(line_, "numbers in another base than ten are not supported");
    }
    if (!after_dot && end + 1 < source_.size() && source_[end] == '.' && absl::ascii_isdigit(source_[end + 1])) {
      end = Digits(end + 1);
      is_float = true;
    }
    if (!after_dot && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
      if (exponent < source_.size() && absl::ascii_isdigit(source_[exponent])) {
        end = Digits(exponent);
        is_float = true;
      }
    }
    std::string text(rest().substr(0, end - at_));
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    Add(is_float ? TokenKind::kFloat : TokenKind::kInteger, text);
    Advance(end - at_);
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    const int line = line_;
    size_t i = at_ + 1;
    std::string value;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] != '\\') {
        value += source_[i];
        continue;
      }
      if (++i >= source_.size()) break;
      BERTH_RETURN_IF_ERROR(Escape(i, value));
    }
    if (i >= source_.size()) return ErrorAtLine(line, "missing end of string");
    Add(TokenKind::kString, value);
    Advance(i + 1 - at_);
    return absl::OkStatus();
  }

  // The escape whose letter is at `i`; leaves `i` at its last character.
  absl::Status Escape(size_t& i, std::string& value) {
    const char c = source_[i];
    static constexpr std::string_view kLetters = "abfnrtv\\'\"", kValues = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t found = kLetters.find(c); found != std::string_view::npos) {
      value += kValues[found];
    } else if (c >= '0' && c <= '7') {
      char32_t code_point = 0;
      size_t end = i;
      while (end < i + 3 && end < source_.size() && source_[end] >= '0' && source_[end] <= '7')
        code_point = code_point * 8 + (source_[end++] - '0');
      AppendCodePoint(code_point, value);
      i = end - 1;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      uint32_t code_point = 0;
      const char* first = source_.data() + i + 1;
      const char* last = first + std::min(digits, source_.size() - i - 1);
      if (std::from_chars(first, last, code_point, 16).ptr != first + digits || code_point > 0x10FFFF ||
          (code_point >= 0xD800 && code_point < 0xE000)) {
        return ErrorAtLine(line_, Cat("bad escape '\\", std::string(1, c), "' in a string"));
      }
      AppendCodePoint(code_point, value);
      i += digits;
    } else if (c == 'N') {
      return ErrorAtLine(line_, "the escape '\\N' in a string is not supported");
    } else if (c != '\n') {
      value += '\\';
      value += c;
    }
    return absl::OkStatus();
  }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

absl::Status ErrorAtLine(int line, std::string_view message) {
  return absl::InvalidArgumentError(Cat("template line ", line, ": ", message));
}

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  if (!base::IsUtf8(source)) return absl::InvalidArgumentError("the template is not UTF-8");
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace berth::text::jinja
