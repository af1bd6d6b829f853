#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/string_map.h"
#include "worker/text/tokenizer_data.h"

namespace berth::text {

// The bytes that a piece spells under data.byte_level and data.decoder.space.
std::string BytesOfPiece(const std::string& piece, const TokenizerData& data);

// The tokens of a tokenizer by id and by name, and the bytes each stands for. Immutable and thread-safe.
class Vocabulary {
 public:
  // Reads pieces, added_tokens, byte_level and decoder. INVALID_ARGUMENT when an id is out of range or a piece is not UTF-8.
  static absl::StatusOr<Vocabulary> Make(const TokenizerData& data);

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  std::string_view Bytes(int32_t id) const { return Contains(id) ? tokens_[id].bytes : std::string_view(); }
  bool IsSpecial(int32_t id) const { return Contains(id) && tokens_[id].special; }
  bool IsByte(int32_t id) const { return Contains(id) && tokens_[id].byte; }
  int32_t IdOf(std::string_view token) const;

  // Lets `id`, which exists, stand for other bytes than its name says.
  void SetBytes(int32_t id, std::string bytes) { tokens_[id].bytes = std::move(bytes); }

 private:
  struct Token {
    std::string bytes;
    bool special = false;
    bool byte = false;
  };

  Vocabulary() = default;
  bool Contains(int32_t id) const { return id >= 0 && id < size(); }

  std::vector<Token> tokens_;
  StringToId ids_;
};

}  // namespace berth::text
