#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "worker/text/string_map.h"
#include "worker/text/tokenizer_data.h"

namespace berth::text {

// Byte-pair encoding of single words. Immutable and thread-safe.
class Bpe {
 public:
  // Reads the kBpe fields of `data` and its pieces. INVALID_ARGUMENT when a merge or the unknown token names no piece.
  static absl::StatusOr<Bpe> Make(const TokenizerData& data);

  // Appends the ids of `word` (UTF-8).
  void Encode(std::string_view word, std::vector<int32_t>& out) const;

 private:
  struct Target {
    int32_t result;
    int32_t rank;
  };
  struct Symbol {
    int32_t id;
    int32_t previous;  // index; -1: none
    int32_t next;
  };

  Bpe() = default;
  static uint64_t PairKey(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  void AppendSymbols(std::string_view word, std::vector<Symbol>& symbols) const;
  void AppendUnknown(std::string_view character, std::vector<Symbol>& symbols) const;
  void MergeAll(std::vector<Symbol>& symbols) const;

  absl::flat_hash_map<uint64_t, Target> merges_;
  StringToId ids_;                     // byte-level: by bytes, else by piece
  std::array<int32_t, 256> byte_ids_;  // of single bytes (byte-level) or of byte tokens (fallback); -1: none
  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  bool fuse_unknown_ = false;
  int32_t unknown_id_ = -1;
};

}  // namespace berth::text
