#include "worker/text/sim_tokenizer.h"

#include <iterator>
#include <string>
#include <string_view>

#include "worker/text/byte_spelling.h"
#include "worker/text/utf8.h"

namespace berth::text {
namespace {

using Ids = SimVocabulary;

constexpr std::string_view kWords[] = {" the", " sea", "海", " мир", "港", " café", "🚢", "سفينة", " नाव", "한", "\n", " größe"};
// Cut inside a character: a head is completed by the tail of the same index.
constexpr std::string_view kHeads[] = {" h\xE6\xB8", " \xF0\x9F", "x\xC3", "船\xE6"};
constexpr std::string_view kTails[] = {"\xAF, ", "\x9A\xA2 ", "\xA4 ", "\xB5\xB7 "};
constexpr std::string_view kStopParts[] = {"ST", "OP", "STO", "P!", "EN", "ND", "<|im", "_end|>", "\n\n"};

std::string OutputPiece(int32_t index) {
  const int32_t n = index / 8;
  switch (index % 8) {
    case 0:
      return std::string(kHeads[n % std::size(kHeads)]);
    case 1:
      return std::string(kTails[n % std::size(kTails)]);
    case 2:
      return std::string(kStopParts[n % std::size(kStopParts)]);
    default:
      return std::string(kWords[index % std::size(kWords)]).append(kWords[n % std::size(kWords)]);
  }
}

std::string Spell(std::string_view bytes) {
  std::string piece;
  for (unsigned char byte : bytes) AppendUtf8(CharacterOfByte(byte), piece);
  return piece;
}

}  // namespace

TokenizerData SimTokenizerData() {
  TokenizerData data{.pieces = {"<eos>", "<msg>"}, .byte_level = true, .eos_id = Ids::kEos, .generation_eos_ids = {Ids::kEos}};
  for (int32_t id : {Ids::kEos, Ids::kMessage}) {
    data.added_tokens.push_back({.id = id, .content = data.pieces[id], .special = true});
  }
  for (int byte = 0; byte < 256; ++byte) data.pieces.push_back(Spell(std::string(1, static_cast<char>(byte))));
  for (int32_t id = Ids::kFirstPiece; id < Ids::kEnd; ++id) data.pieces.push_back(Spell(OutputPiece(id - Ids::kFirstPiece)));
  return data;
}

}  // namespace berth::text
