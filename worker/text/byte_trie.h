#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"

namespace berth::text {

// Strings with a value each, found by longest match.
class ByteTrie {
 public:
  struct Match {
    int32_t value = -1;  // -1: none
    size_t size = 0;
  };

  // `key` is not empty; a second value for it replaces the first. `value` is not negative.
  void Insert(std::string_view key, int32_t value);
  // Calls `visit(value, size)` for every key that `text` starts with, the shortest first.
  void ForEachPrefix(std::string_view text, absl::FunctionRef<void(int32_t value, size_t size)> visit) const;
  // The longest key that `text` starts with.
  Match LongestPrefix(std::string_view text) const;

 private:
  static uint64_t Edge(uint32_t node, char byte) { return uint64_t{node} << 8 | static_cast<unsigned char>(byte); }

  struct Node {
    uint32_t id;
    int32_t value;
  };
  absl::flat_hash_map<uint64_t, Node> nodes_;  // by the edge that leads to them; the root is node 0
  std::bitset<256> first_bytes_;
};

}  // namespace berth::text
