#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "worker/engine/step_plan.h"

namespace berth::engine {

// Which blocks hold the KV of which token prefixes. An entry is one full block of tokens after one parent entry (at the root:
// after a salt); it is found by the hash of both and believed only after both were compared, so a collision never shares KV.
// An entry whose parent was erased cannot be reached any more and goes with its block. Knows nothing of requests, and keeps
// nothing alive: the owner of the blocks erases those it reuses. Thread: engine thread only.
class PrefixIndex {
 public:
  // The blocks of the longest known beginning of `tokens`, at most `max_blocks`.
  std::vector<int32_t> Find(uint64_t salt, absl::Span<const int32_t> tokens, int max_blocks) const;
  // Enters blocks[i] as holding tokens [64 i, 64 (i + 1)) for every full block of `tokens`, where no other block holds them
  // yet. Returns the blocks that are new in the index.
  std::vector<int32_t> Publish(uint64_t salt, absl::Span<const int32_t> tokens, absl::Span<const int32_t> blocks);
  // No effect on blocks that are not in the index.
  void Erase(int32_t block);

  int size() const { return static_cast<int>(by_block_.size()); }
  bool Contains(int32_t block) const { return by_block_.contains(block); }

 private:
  struct Entry {
    uint64_t id = 0;      // never used twice
    uint64_t parent = 0;  // id; 0: the root
    uint64_t salt = 0;
    int32_t block = 0;
    std::array<int32_t, kBlockTokens> tokens;
  };

  static uint64_t Hash(uint64_t salt, uint64_t parent, absl::Span<const int32_t> tokens);
  const Entry* Lookup(uint64_t hash, uint64_t salt, uint64_t parent, absl::Span<const int32_t> tokens) const;

  absl::flat_hash_map<uint64_t, Entry> entries_;  // by hash; of two that collide the first stays
  absl::flat_hash_map<int32_t, uint64_t> by_block_;
  uint64_t next_id_ = 1;
};

}  // namespace berth::engine
