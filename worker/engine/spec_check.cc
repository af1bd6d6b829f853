#include "worker/engine/spec_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"

namespace berth::engine {
namespace {

absl::Status CheckTokens(const char* field, absl::Span<const int32_t> tokens, int vocab_size) {
  for (const int32_t token : tokens) {
    if (token >= 0 && (vocab_size == 0 || token < vocab_size)) continue;
    return absl::InvalidArgumentError(absl::StrCat(field, " holds token ", token, ", the vocabulary has ", vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSpec(const ExecutorLimits& limits, SequenceSpec* spec) {
  const auto length = static_cast<int64_t>(spec->tokens.size());
  if (spec->prompt_length < 1 || spec->prompt_length > length) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt_length is ", spec->prompt_length, ", want 1 to the ", length, " tokens given"));
  }
  // The last token of a sequence may be drawn, but then nothing can follow it.
  if (spec->prompt_length + (spec->pool ? 0 : 1) > limits.max_length || length > limits.max_length) {
    return absl::InvalidArgumentError(absl::StrCat("a prompt of ", spec->prompt_length, " tokens and ",
                                                   length - spec->prompt_length, " of output do not fit a context of ",
                                                   limits.max_length, " tokens"));
  }
  if (spec->max_tokens < 0 || spec->min_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens is ", spec->max_tokens, " and min_tokens is ", spec->min_tokens, ", want 0 or more"));
  }
  BERTH_RETURN_IF_ERROR(CheckTokens("tokens", spec->tokens, limits.vocab_size));
  BERTH_RETURN_IF_ERROR(CheckTokens("stop_tokens", spec->stop_tokens, limits.vocab_size));
  for (const auto& word : spec->bad_words) BERTH_RETURN_IF_ERROR(CheckTokens("bad_words", word, limits.vocab_size));
  for (const auto& [token, value] : spec->logit_bias) {
    BERTH_RETURN_IF_ERROR(CheckTokens("logit_bias", {&token, 1}, limits.vocab_size));
  }
  // A pooled sequence does not end before its sum is there.
  spec->max_tokens = spec->pool ? 1 : std::min(spec->max_tokens, limits.max_length - spec->prompt_length);
  spec->min_tokens = std::min(spec->min_tokens, spec->max_tokens);
  return absl::OkStatus();
}

}  // namespace berth::engine
