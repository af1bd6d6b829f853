#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace berth::text {

// Finds the first stop string in a text that arrives in pieces. Text that could be the start of a stop string is held back, so
// that nothing of a stop string ever leaks. Thread: one at a time.
class StopMatcher {
 public:
  struct Result {
    std::string text;                  // final, to be sent
    std::optional<std::string> match;  // the stop string that ended the text
    size_t match_end = 0;              // bytes of all appended text up to the end of the match
  };

  // Empty strings are ignored. `include_stop`: a match is part of the text.
  StopMatcher(std::vector<std::string> stops, bool include_stop);

  // After a match, do not append. The earliest end wins; among stops that end at the same byte, the longest.
  Result Append(std::string_view piece);
  // What was held back, when generation ended without a match.
  std::string Finish();

 private:
  // Aho-Corasick: a state is the longest end of the text so far that some stop string starts with.
  struct State {
    uint32_t parent = 0;
    uint32_t suffix = 0;  // the state of the next shorter such end
    char byte = 0;
    uint32_t depth = 0;  // bytes of that end: what is held back
    int32_t stop = -1;   // the longest stop string that ends here; -1: none
  };

  static uint64_t Edge(uint32_t state, char byte) { return uint64_t{state} << 8 | static_cast<unsigned char>(byte); }
  void AddStop(size_t index);
  void LinkSuffixes();
  uint32_t Next(uint32_t state, char byte) const;

  std::vector<std::string> stops_;
  bool include_stop_;
  std::vector<State> states_ = {State{}};
  absl::flat_hash_map<uint64_t, uint32_t> edges_;
  uint32_t state_ = 0;
  std::string held_;
  size_t appended_ = 0;
};

}  // namespace berth::text
