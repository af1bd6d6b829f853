#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "proto/berth/v1/generation.pb.h"
#include "worker/engine/sequence.h"
#include "worker/service/content_log.h"
#include "worker/text/detokenizer.h"
#include "worker/text/stop_matcher.h"
#include "worker/text/tokenizer.h"

namespace berth::service {

struct OutputRules {
  bool skip_special = true;
  bool include_stop = false;
  bool logprobs = false;
  std::vector<std::string> stop_strings;
  ContentRules content = {};
};

// All but `content`.
OutputRules RulesFor(const v1::GenerationSpec& spec);

// The token log of one choice: ids, log-probabilities, and the text and content that are final after each token, a pure
// function of the ids. A token has at most one part of the content; what else it completed belongs to the tokens behind it.
// What was sent is two cursors into it, so deltas can be merged, split and sent again. Thread: I/O thread.
class ChoiceOutput {
 public:
  // `prompt_tail`: as StreamingDetokenizer takes it.
  ChoiceOutput(const text::Tokenizer& tokenizer, const OutputRules& rules, absl::Span<const int32_t> prompt_tail);

  // Appends output. `last_is_stop`: the last token is a stop token, which has no text. True when a stop string matched: the
  // output ends with the token that completed it, later ones were dropped.
  bool Append(absl::Span<const int32_t> tokens, absl::Span<const engine::TokenLogprobs> logprobs, bool last_is_stop);
  // Generation ended without a stop string: held-back text becomes final.
  void Finish();
  // Ends the output after `count` tokens, as if the others had never been.
  void Truncate(int count);

  int size() const { return static_cast<int>(tokens_.size()); }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  // All final text, as the model wrote it.
  const std::string& text() const { return text_; }
  bool has_calls() const { return content_.has_calls(); }
  const std::string& matched_stop() const { return matched_stop_; }

  int sent_tokens() const { return sent_tokens_; }
  // Sets the cursors to what a peer that has `tokens` of the output has seen.
  void SetSent(int tokens);
  // Something is left for TakeDelta. Content without tokens counts only at `end`.
  bool has_unsent(bool end) const { return sent_tokens_ < size() || (end && sent_content_ < content_.size()); }
  // Moves the next output into `delta` (choice_index excepted), as many tokens of one part of the content as fit into `budget`
  // bytes but at least one, and charges them.
  void TakeDelta(int64_t* budget, v1::Delta* delta);

 private:
  void AppendText(std::string_view text);
  void EndToken();
  size_t content_end(int token) const { return token < 0 ? 0 : ends_[token].content; }

  const text::Tokenizer& tokenizer_;
  const bool include_stop_, logprobs_wanted_;
  text::StreamingDetokenizer detokenizer_;
  text::StopMatcher matcher_;
  const bool match_stops_;
  std::vector<int32_t> tokens_;
  struct End {
    size_t text = 0, content = 0;
  };
  std::vector<End> ends_;  // of what is final, per token
  std::vector<v1::TokenLogprob> logprobs_;
  std::string text_;
  ContentLog content_;
  std::string matched_stop_;
  int sent_tokens_ = 0;
  size_t sent_content_ = 0;
};

}  // namespace berth::service
