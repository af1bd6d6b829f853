#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
  std::vector<std::string> stops_;
  bool include_stop_;
  std::string held_;
  size_t appended_ = 0;
};

}  // namespace berth::text
