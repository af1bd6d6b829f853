#include "worker/text/grammar/token_trie.h"

#include <algorithm>
#include <string_view>

namespace berth::text {

TokenTrie::TokenTrie(const Tokenizer& tokenizer) {
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    if (!tokenizer.IsSpecial(id) && !tokenizer.TokenBytes(id, false).empty()) tokens.push_back(id);
  }
  const auto bytes = [&](int32_t id) { return tokenizer.TokenBytes(id, false); };
  std::stable_sort(tokens.begin(), tokens.end(), [&](int32_t a, int32_t b) { return bytes(a) < bytes(b); });
  std::vector<int32_t> path;  // nodes from the root to the token before
  std::string_view before;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view text = bytes(tokens[i]);
    const size_t shared = std::mismatch(before.begin(), before.end(), text.begin(), text.end()).first - before.begin();
    for (; path.size() > shared; path.pop_back()) nodes[path.back()].end = static_cast<int32_t>(nodes.size());
    for (size_t depth = shared; depth < text.size(); ++depth) {
      path.push_back(static_cast<int32_t>(nodes.size()));
      const auto at = static_cast<int32_t>(i);
      nodes.push_back({static_cast<uint8_t>(text[depth]), static_cast<int32_t>(depth) + 1, 0, at, at});
    }
    ++nodes[path.back()].end_token;
    longest = std::max(longest, nodes[path.back()].depth);
    before = text;
  }
  for (const int32_t node : path) nodes[node].end = static_cast<int32_t>(nodes.size());
}

}  // namespace berth::text
