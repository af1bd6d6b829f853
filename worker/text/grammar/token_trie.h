#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "worker/text/tokenizer.h"

namespace berth::text {

// The byte strings of a vocabulary's plain tokens as a tree in preorder, so that a prefix is read once for all tokens that
// share it. Special tokens and tokens without bytes are left out.
struct TokenTrie {
  struct Node {
    uint8_t byte;
    int32_t depth;                   // 1 for the first byte
    int32_t end;                     // the node after this one's subtree
    int32_t first_token, end_token;  // tokens that end here: a range of `tokens`
  };

  explicit TokenTrie(const Tokenizer& tokenizer);
  TokenTrie() = default;

  std::vector<Node> nodes;
  std::vector<int32_t> tokens;
  int longest = 0;  // bytes of a token, at most
};

}  // namespace berth::text
