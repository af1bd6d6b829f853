#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "worker/text/byte_trie.h"
#include "worker/text/tokenizer_data.h"

namespace berth::text {

// Finds added tokens in a text: the longest one at the leftmost place. Immutable and thread-safe.
class AddedTokenMatcher {
 public:
  struct Segment {
    std::string_view text;  // UTF-8, not empty
    int32_t id = -1;        // -1: no added token
  };

  // Tokens with empty content are never found.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  // Covers `text`. `find_special`: special tokens are found too.
  std::vector<Segment> Split(std::string_view text, bool find_special) const;

 private:
  std::vector<AddedToken> tokens_;
  ByteTrie trie_;  // content to index in tokens_
};

}  // namespace berth::text
