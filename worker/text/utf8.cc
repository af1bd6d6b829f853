#include "worker/text/utf8.h"

#include <algorithm>

#include "unicode/uchar.h"
#include "unicode/utf8.h"

namespace berth::text {
namespace {

Utf8Char LastUtf8Char(std::string_view text) {
  int32_t start = static_cast<int32_t>(std::min<size_t>(text.size(), U8_MAX_LENGTH));
  const char* window = text.data() + text.size() - start;
  const int32_t size = start;
  UChar32 code_point;
  U8_PREV(window, 0, start, code_point);
  return {code_point, size - start};
}

bool IsSpace(int32_t code_point) { return u_hasBinaryProperty(code_point, UCHAR_WHITE_SPACE); }

bool IsWord(int32_t code_point) {
  constexpr uint32_t kCategories = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_hasBinaryProperty(code_point, UCHAR_ALPHABETIC) || (U_GET_GC_MASK(code_point) & kCategories) != 0 ||
         u_hasBinaryProperty(code_point, UCHAR_JOIN_CONTROL);
}

}  // namespace

Utf8Char FirstUtf8Char(std::string_view text) {
  const int32_t length = static_cast<int32_t>(std::min<size_t>(text.size(), U8_MAX_LENGTH));
  int32_t size = 0;
  UChar32 code_point;
  U8_NEXT(text.data(), size, length, code_point);
  return {code_point < 0 ? -1 : code_point, size};
}

size_t FindInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const Utf8Char next = FirstUtf8Char(text.substr(at));
    if (next.code_point < 0) return at;
    at += next.size;
  }
  return std::string_view::npos;
}

size_t UnfinishedUtf8Tail(std::string_view text) {
  const size_t longest = std::min<size_t>(text.size(), 3);
  for (size_t tail = 1; tail <= longest; ++tail) {
    const unsigned char lead = text[text.size() - tail];
    if (U8_IS_TRAIL(lead)) continue;
    if (!U8_IS_LEAD(lead) || tail >= static_cast<size_t>(1 + U8_COUNT_TRAIL_BYTES(lead))) return 0;
    // The maximal part reaches the end only if every byte so far fits.
    const Utf8Char part = FirstUtf8Char(text.substr(text.size() - tail));
    return part.size == static_cast<int32_t>(tail) ? tail : 0;
  }
  return 0;
}

void AppendLossyUtf8(std::string_view bytes, std::string& out) {
  while (!bytes.empty()) {
    const size_t valid = std::min(FindInvalidUtf8(bytes), bytes.size());
    out.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) return;
    out.append(kReplacementCharacter);
    bytes.remove_prefix(FirstUtf8Char(bytes).size);
  }
}

void AppendUtf8(int32_t code_point, std::string& out) {
  char buffer[U8_MAX_LENGTH];
  int32_t size = 0;
  U8_APPEND_UNSAFE(buffer, size, code_point);
  out.append(buffer, size);
}

size_t LeadingSpace(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Char c = FirstUtf8Char(text.substr(length));
    if (!IsSpace(c.code_point)) break;
    length += c.size;
  }
  return length;
}

size_t TrailingSpace(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Char c = LastUtf8Char(text.substr(0, text.size() - length));
    if (!IsSpace(c.code_point)) break;
    length += c.size;
  }
  return length;
}

bool StartsWithWord(std::string_view text) { return !text.empty() && IsWord(FirstUtf8Char(text).code_point); }
bool EndsWithWord(std::string_view text) { return !text.empty() && IsWord(LastUtf8Char(text).code_point); }

}  // namespace berth::text
