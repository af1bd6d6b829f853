#include "base/utf8.h"

#include <cstddef>
#include <cstdint>

namespace berth::base {

bool IsUtf8(std::string_view text) {
  constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};  // by the number of trailing bytes
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<uint8_t>(text[at++]);
    if (lead < 0x80) continue;
    if (lead < 0xC0 || lead > 0xF7) return false;
    const size_t trailing = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    if (text.size() - at < trailing) return false;
    uint32_t code_point = lead & (0x3F >> trailing);
    for (size_t i = 0; i < trailing; ++i) {
      const auto byte = static_cast<uint8_t>(text[at++]);
      if ((byte & 0xC0) != 0x80) return false;
      code_point = code_point << 6 | (byte & 0x3F);
    }
    const bool surrogate = code_point >= 0xD800 && code_point < 0xE000;
    if (code_point < kLeast[trailing] || code_point > 0x10FFFF || surrogate) return false;
  }
  return true;
}

}  // namespace berth::base
