#include "worker/engine/prefix_index.h"

#include <algorithm>
#include <string_view>

#include "base/hash.h"

namespace berth::engine {

std::vector<int32_t> PrefixIndex::Find(uint64_t salt, absl::Span<const int32_t> tokens, int max_blocks) const {
  std::vector<int32_t> blocks;
  uint64_t parent = 0;
  const int count = std::min<int>(max_blocks, static_cast<int>(tokens.size()) / kBlockTokens);
  for (int i = 0; i < count; ++i) {
    const auto content = tokens.subspan(static_cast<size_t>(i) * kBlockTokens, kBlockTokens);
    const Entry* entry = Lookup(Hash(salt, parent, content), salt, parent, content);
    if (entry == nullptr) break;
    blocks.push_back(entry->block);
    parent = entry->id;
  }
  return blocks;
}

std::vector<int32_t> PrefixIndex::Publish(uint64_t salt, absl::Span<const int32_t> tokens, absl::Span<const int32_t> blocks) {
  std::vector<int32_t> added;
  uint64_t parent = 0;
  const size_t count = std::min(blocks.size(), tokens.size() / kBlockTokens);
  for (size_t i = 0; i < count; ++i) {
    const auto content = tokens.subspan(i * kBlockTokens, kBlockTokens);
    const uint64_t hash = Hash(salt, parent, content);
    if (const Entry* entry = Lookup(hash, salt, parent, content)) {
      parent = entry->id;
      continue;
    }
    if (entries_.contains(hash)) break;  // a collision hides everything behind it
    Erase(blocks[i]);                    // it was known behind a parent that is gone
    Entry& entry = entries_[hash];
    entry = {.id = next_id_++, .parent = parent, .salt = salt, .block = blocks[i]};
    std::copy(content.begin(), content.end(), entry.tokens.begin());
    by_block_[blocks[i]] = hash;
    added.push_back(blocks[i]);
    parent = entry.id;
  }
  return added;
}

void PrefixIndex::Erase(int32_t block) {
  const auto found = by_block_.find(block);
  if (found == by_block_.end()) return;
  entries_.erase(found->second);
  by_block_.erase(found);
}

uint64_t PrefixIndex::Hash(uint64_t salt, uint64_t parent, absl::Span<const int32_t> tokens) {
  const std::string_view bytes(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(int32_t));
  return base::Hash64(bytes, base::HashCombine(salt, parent));
}

const PrefixIndex::Entry* PrefixIndex::Lookup(uint64_t hash, uint64_t salt, uint64_t parent,
                                              absl::Span<const int32_t> tokens) const {
  const auto found = entries_.find(hash);
  if (found == entries_.end()) return nullptr;
  const Entry& entry = found->second;
  if (entry.salt != salt || entry.parent != parent) return nullptr;
  return std::equal(tokens.begin(), tokens.end(), entry.tokens.begin()) ? &entry : nullptr;
}

}  // namespace berth::engine
