#include "worker/loader/byte_tokenizer.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "worker/text/byte_spelling.h"
#include "worker/text/utf8.h"

namespace berth::loader {
namespace {

constexpr char kTemplate[] =
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}";

std::string Spell(std::string_view bytes) {
  std::string piece;
  for (const unsigned char byte : bytes) text::AppendUtf8(text::CharacterOfByte(byte), piece);
  return piece;
}

}  // namespace

text::TokenizerData ByteTokenizerData(int32_t vocab) {
  text::TokenizerData data{.byte_level = true, .chat_template = kTemplate};
  for (int32_t id = 0; id < vocab; ++id) {
    data.pieces.push_back(Spell(id < 256 ? std::string(1, static_cast<char>(id)) : absl::StrCat(" <", id, ">")));
  }
  return data;
}

}  // namespace berth::loader
