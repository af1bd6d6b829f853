#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/text/regex.h"
#include "worker/text/tokenizer_data.h"

namespace berth::text {

// A text cut into words. The views point into the text or into `owned`.
struct Words {
  std::vector<std::string_view> words;
  std::deque<std::string> owned;
};

// The pre-tokenizer steps of a tokenizer, one after the other. Immutable and thread-safe.
class PreTokenizer {
 public:
  static absl::StatusOr<PreTokenizer> Make(std::vector<PreTokenizerStep> steps);

  // `text` is UTF-8 and outlives the words. `at_start`: it is the start of the whole text.
  absl::StatusOr<Words> Split(std::string_view text, bool at_start) const;

 private:
  PreTokenizer() = default;
  static absl::Status ApplySplit(const PreTokenizerStep& step, const Matcher& matcher, Words& words);
  static void ApplyPrefix(const PreTokenizerStep& step, bool at_start, Words& words);

  std::vector<PreTokenizerStep> steps_;
  std::vector<Matcher> matchers_;  // those of the kSplit steps, in order
};

}  // namespace berth::text
