#include "worker/text/byte_spelling.h"

#include <array>

#include "worker/text/utf8.h"

namespace berth::text {
namespace {

constexpr bool IsPrintable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Tables {
  std::array<int16_t, 256> character{};
  std::array<int16_t, 0x144> byte{};  // by character; -1: spells no byte

  constexpr Tables() {
    byte.fill(-1);
    int16_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      character[b] = IsPrintable(b) ? static_cast<int16_t>(b) : next++;
      byte[character[b]] = static_cast<int16_t>(b);
    }
  }
};
constexpr Tables kTables;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

int32_t CharacterOfByte(unsigned char byte) { return kTables.character[byte]; }

std::string SpellingOfBytes(std::string_view bytes) {
  std::string piece;
  for (const char byte : bytes) AppendUtf8(CharacterOfByte(static_cast<unsigned char>(byte)), piece);
  return piece;
}

std::optional<std::string> BytesOfSpelling(std::string_view piece) {
  std::string bytes;
  while (!piece.empty()) {
    const Utf8Char c = FirstUtf8Char(piece);
    if (c.code_point < 0 || c.code_point >= static_cast<int32_t>(kTables.byte.size())) return std::nullopt;
    if (kTables.byte[c.code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kTables.byte[c.code_point]));
    piece.remove_prefix(c.size);
  }
  return bytes;
}

std::optional<unsigned char> ByteOfToken(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  const int high = HexDigit(piece[3]);
  const int low = HexDigit(piece[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

}  // namespace berth::text
