#include "worker/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace berth::text {
namespace {

// PCRE2's own \s has U+180E and its \w lacks marks, unlike Oniguruma's.
constexpr std::string_view kSpaceSet = R"(\t-\r \x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kWordSet = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

constexpr uint32_t kMatchLimit = 10'000'000;
constexpr size_t kJitStackStart = 32 << 10;
constexpr size_t kJitStackMost = 1 << 20;

absl::Status Unsupported(std::string_view pattern, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrFormat("regular expression \"%s\" has %s, which is not supported", pattern, what));
}

// Spells Oniguruma's \s \S \w \W for PCRE2.
absl::StatusOr<std::string> Translate(std::string_view pattern) {
  std::string out;
  int class_depth = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c != '\\') {
      if (c == '[' && class_depth > 0 && next != ':') return Unsupported(pattern, "a set inside a set");
      if (c == '&' && next == '&' && class_depth > 0) return Unsupported(pattern, "an intersection of sets");
      if (c == '[' && (class_depth == 0 || next == ':')) ++class_depth;
      if (c == ']' && class_depth > 0) --class_depth;
      out.push_back(c);
      continue;
    }
    ++i;
    const std::string_view set = next == 's' || next == 'S' ? kSpaceSet : kWordSet;
    if (next == 's' || next == 'w') {
      out.append(class_depth > 0 ? "" : "[").append(set).append(class_depth > 0 ? "" : "]");
    } else if (next == 'S' || next == 'W') {
      if (class_depth > 0) return Unsupported(pattern, "\\S or \\W inside a set");
      out.append("[^").append(set).append("]");
    } else if (next == 'h' || next == 'H') {
      return Unsupported(pattern, "\\h");
    } else {
      out.push_back('\\');
      if (next != '\0') out.push_back(next);
    }
  }
  return out;
}

std::string ErrorText(int code) {
  char buffer[200] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(buffer), sizeof buffer);
  return buffer;
}

}  // namespace

struct Matcher::Scan::Pcre {
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr);
  pcre2_match_data* data;

  explicit Pcre(const pcre2_code* code) : data(pcre2_match_data_create_from_pattern(code, nullptr)) {
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Pcre() {
    pcre2_match_data_free(data);
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
  }
  Pcre(const Pcre&) = delete;
};

void Matcher::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

absl::StatusOr<Matcher> Matcher::Compile(const Pattern& pattern) {
  if (pattern.text.empty()) return absl::InvalidArgumentError("an empty pattern matches nothing");
  Matcher matcher;
  matcher.source_ = pattern.text;
  if (!pattern.is_regex) return matcher;

  BERTH_ASSIGN_OR_RETURN(const std::string source, Translate(pattern.text));
  // Multi-line: Oniguruma's ^ and $ also match at line ends.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE;
  int error = 0;
  size_t offset = 0;
  matcher.code_.reset(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(), kOptions, &error, &offset, nullptr));
  if (matcher.code_ == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrFormat("regular expression \"%s\" does not compile: %s", pattern.text, ErrorText(error)));
  }
  pcre2_jit_compile(matcher.code_.get(), PCRE2_JIT_COMPLETE);  // without JIT it is only slower
  return matcher;
}

Matcher::Scan::Scan(const Matcher& matcher)
    : matcher_(matcher), pcre_(matcher.code_ == nullptr ? nullptr : std::make_unique<Pcre>(matcher.code_.get())) {}

Matcher::Scan::~Scan() = default;

absl::StatusOr<absl::Span<const std::pair<size_t, size_t>>> Matcher::Scan::FindAll(std::string_view text) {
  matches_.clear();
  if (pcre_ == nullptr) {
    FindLiteral(text);
  } else {
    BERTH_RETURN_IF_ERROR(FindExpression(text));
  }
  return matches_;
}

absl::Status Matcher::Scan::FindExpression(std::string_view text) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const size_t* range = pcre2_get_ovector_pointer(pcre_->data);
  size_t at = 0;
  while (at < text.size()) {
    constexpr uint32_t kOptions = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    const int rc = pcre2_match(matcher_.code_.get(), subject, text.size(), at, kOptions, pcre_->data, pcre_->context);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the text cannot be split by regular expression \"%s\": %s", matcher_.source_, ErrorText(rc)));
    }
    matches_.emplace_back(range[0], range[1]);
    at = range[1];
  }
  return absl::OkStatus();
}

void Matcher::Scan::FindLiteral(std::string_view text) {
  const std::string& literal = matcher_.source_;
  for (size_t at = text.find(literal); at != std::string_view::npos; at = text.find(literal, at + literal.size())) {
    matches_.emplace_back(at, at + literal.size());
  }
}

}  // namespace berth::text
