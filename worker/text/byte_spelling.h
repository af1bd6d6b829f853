#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace berth::text {

// How byte-level vocabularies cut words, unless their files say otherwise (GPT-2's encoder.py).
inline constexpr char kGpt2Words[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Byte-level vocabularies spell each byte as one printable character (GPT-2's bytes_to_unicode): printable Latin-1 as itself,
// the other 68 bytes as U+0100 and up.
int32_t CharacterOfByte(unsigned char byte);

// The piece that spells `bytes`.
std::string SpellingOfBytes(std::string_view bytes);

// The bytes that `piece` spells; nothing when one of its characters is not among the 256.
std::optional<std::string> BytesOfSpelling(std::string_view piece);

// 0 … 255 for a piece of the form <0xE4>, as byte-fallback vocabularies spell bytes.
std::optional<unsigned char> ByteOfToken(std::string_view piece);

}  // namespace berth::text
