#include "worker/text/jinja/unicode.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "worker/text/utf8.h"

namespace berth::text::jinja {
namespace {

icu::UnicodeString FromUtf8(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

bool InSet(std::string_view one, const std::string* chars) {
  return chars == nullptr ? IsSpace(ToCodePoint(one)) : chars->find(one) != std::string::npos;
}

// Python's title-case mapping of one character, which may be several ("ß" gives "Ss").
void AppendTitle(std::string_view one, std::string& out) {
  FromUtf8(one).toTitle(nullptr, icu::Locale::getRoot()).toUTF8String(out);
}

size_t SequenceLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace

std::vector<std::string_view> CodePoints(std::string_view text) {
  std::vector<std::string_view> result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); i += result.back().size()) result.push_back(text.substr(i, SequenceLength(text[i])));
  return result;
}

size_t CodePointCount(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

void AppendCodePoint(char32_t code_point, std::string& out) { AppendUtf8(static_cast<int32_t>(code_point), out); }

char32_t ToCodePoint(std::string_view one) { return static_cast<char32_t>(FirstUtf8Char(one).code_point); }

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsDigit(char32_t c) {
  const int32_t type = u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE);
  return type == U_NT_DECIMAL || type == U_NT_DIGIT;
}

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  constexpr uint32_t kHidden = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & kHidden) == 0;
}

std::string Upper(std::string_view text) {
  std::string out;
  FromUtf8(text).toUpper(icu::Locale::getRoot()).toUTF8String(out);
  return out;
}

std::string Lower(std::string_view text) {
  std::string out;
  FromUtf8(text).toLower(icu::Locale::getRoot()).toUTF8String(out);
  return out;
}

std::string Capitalize(std::string_view text) {
  std::string out;
  if (text.empty()) return out;
  const size_t first = SequenceLength(text[0]);
  AppendTitle(text.substr(0, first), out);
  return out + Lower(text.substr(first));
}

std::string Title(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (std::string_view one : CodePoints(text)) {
    if (in_word) {
      out += Lower(one);
    } else {
      AppendTitle(one, out);
    }
    const auto c = static_cast<UChar32>(ToCodePoint(one));
    in_word = u_isULowercase(c) || u_isUUppercase(c) || u_istitle(c);
  }
  return out;
}

std::string_view StripLeft(std::string_view text, const std::string* chars) {
  while (!text.empty()) {
    const std::string_view one = text.substr(0, SequenceLength(text[0]));
    if (!InSet(one, chars)) break;
    text.remove_prefix(one.size());
  }
  return text;
}

std::string_view StripRight(std::string_view text, const std::string* chars) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while ((static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (!InSet(text.substr(start), chars)) break;
    text = text.substr(0, start);
  }
  return text;
}

}  // namespace berth::text::jinja
