#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace berth::text {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// The first character of `text`, which is not empty. Ill-formed input: `code_point` is -1 and `size` the length of the maximal
// part of a character (Unicode 15, section 3.9), at least 1.
struct Utf8Char {
  int32_t code_point;
  int32_t size;
};
Utf8Char FirstUtf8Char(std::string_view text);

// Offset of the first byte that is not UTF-8, or npos.
size_t FindInvalidUtf8(std::string_view text);

// Length of the start of a character at the end of `text` that more bytes could still complete: 0 … 3.
size_t UnfinishedUtf8Tail(std::string_view text);

// Appends `bytes` with U+FFFD for every maximal part of a broken character.
void AppendLossyUtf8(std::string_view bytes, std::string& out);

void AppendUtf8(int32_t code_point, std::string& out);

// Bytes of Unicode white space at the start or end of `text`.
size_t LeadingSpace(std::string_view text);
size_t TrailingSpace(std::string_view text);

// True if the first or last character of `text` is part of a word: letter, mark, digit, connector or joiner (UTS 18, \w).
bool StartsWithWord(std::string_view text);
bool EndsWithWord(std::string_view text);

}  // namespace berth::text
