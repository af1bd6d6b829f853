#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "proto/berth/v1/generation.pb.h"
#include "worker/engine/sequence.h"
#include "worker/text/tokenizer.h"

namespace berth::service {

// As callers are told of one token.
v1::TokenLogprob MakeLogprob(const text::Tokenizer& tokenizer, int32_t token, const engine::TokenLogprobs& logprobs);

// The log-probabilities of a prompt's tokens on their way to the caller, who gets all of them before any output. Thread: I/O
// thread.
class PromptScores {
 public:
  PromptScores() = default;
  // `tokens`: the prompt. `sent`: of its log-probabilities, as many as the caller has.
  PromptScores(const text::Tokenizer& tokenizer, std::vector<int32_t> tokens, int sent)
      : tokenizer_(&tokenizer), tokens_(std::move(tokens)) {
    SetSent(sent);
  }

  // Of the next tokens, from the second on.
  void Append(const std::vector<engine::TokenLogprobs>& scores) { scores_.insert(scores_.end(), scores.begin(), scores.end()); }

  // The caller lacks some that the engine has to find out.
  bool missing() const { return std::max(sent_, ready()) < static_cast<int>(tokens_.size()); }
  bool has_unsent() const { return sent_ < ready(); }
  void SetSent(int sent) { sent_ = std::clamp(sent, 0, static_cast<int>(tokens_.size())); }
  // Moves the next ones into `delta`, as many as fit into `budget` bytes but at least one, and charges them.
  void TakeDelta(int64_t* budget, v1::Delta* delta);

 private:
  int ready() const { return tokens_.empty() ? 0 : static_cast<int>(scores_.size()) + 1; }

  const text::Tokenizer* tokenizer_ = nullptr;
  std::vector<int32_t> tokens_;
  std::vector<engine::TokenLogprobs> scores_;  // of tokens_[1], …
  int sent_ = 0;
};

}  // namespace berth::service
