#include "worker/text/byte_trie.h"

namespace berth::text {

void ByteTrie::Insert(std::string_view key, int32_t value) {
  first_bytes_.set(static_cast<unsigned char>(key.front()));
  uint32_t node = 0;
  Node* last = nullptr;
  for (char byte : key) {
    const auto next_id = static_cast<uint32_t>(nodes_.size() + 1);
    last = &nodes_.try_emplace(Edge(node, byte), Node{next_id, -1}).first->second;
    node = last->id;
  }
  last->value = value;
}

ByteTrie::Match ByteTrie::LongestPrefix(std::string_view text) const {
  Match best;
  ForEachPrefix(text, [&](int32_t value, size_t size) { best = {value, size}; });
  return best;
}

void ByteTrie::ForEachPrefix(std::string_view text, absl::FunctionRef<void(int32_t value, size_t size)> visit) const {
  if (text.empty() || !first_bytes_.test(static_cast<unsigned char>(text.front()))) return;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto found = nodes_.find(Edge(node, text[i]));
    if (found == nodes_.end()) break;
    if (found->second.value >= 0) visit(found->second.value, i + 1);
    node = found->second.id;
  }
}

}  // namespace berth::text
