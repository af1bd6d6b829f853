#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/regex.h"
#include "worker/text/tokenizer_data.h"

namespace berth::text {

// The normalizer steps of a tokenizer, one after the other. Immutable and thread-safe.
class Normalizer {
 public:
  static absl::StatusOr<Normalizer> Make(std::vector<NormalizerStep> steps);

  bool empty() const { return steps_.empty(); }
  // `text` is UTF-8.
  absl::StatusOr<std::string> Normalize(std::string_view text) const;

 private:
  Normalizer() = default;
  absl::StatusOr<std::string> Apply(size_t step, std::string text) const;

  std::vector<NormalizerStep> steps_;
  std::vector<Matcher> matchers_;   // those of the kReplace steps, in order
  std::vector<size_t> matcher_of_;  // by step: index in matchers_
};

}  // namespace berth::text
