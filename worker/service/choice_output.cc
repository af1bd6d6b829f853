#include "worker/service/choice_output.h"

#include <algorithm>
#include <utility>

#include "worker/service/prompt_scores.h"

namespace berth::service {

OutputRules RulesFor(const v1::GenerationSpec& spec) {
  return {.skip_special = !spec.output().has_skip_special_tokens() || spec.output().skip_special_tokens(),
          .include_stop = spec.stop().include_stop_string(),
          .logprobs = spec.output().has_top_logprobs(),
          .stop_strings = {spec.stop().stop_strings().begin(), spec.stop().stop_strings().end()}};
}

ChoiceOutput::ChoiceOutput(const text::Tokenizer& tokenizer, const OutputRules& rules, absl::Span<const int32_t> prompt_tail)
    : tokenizer_(tokenizer),
      include_stop_(rules.include_stop),
      logprobs_wanted_(rules.logprobs),
      detokenizer_(tokenizer, rules.skip_special, prompt_tail),
      matcher_(rules.stop_strings, rules.include_stop),
      match_stops_(!rules.stop_strings.empty()),
      content_(rules.content) {}

bool ChoiceOutput::Append(absl::Span<const int32_t> tokens, absl::Span<const engine::TokenLogprobs> logprobs,
                          bool last_is_stop) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens_.push_back(tokens[i]);
    if (logprobs_wanted_) {
      logprobs_.push_back(MakeLogprob(tokenizer_, tokens[i], i < logprobs.size() ? logprobs[i] : engine::TokenLogprobs{}));
    }
    if (last_is_stop && i + 1 == tokens.size() && !include_stop_) {
      EndToken();
      break;
    }
    const std::string piece = detokenizer_.Append(tokens.subspan(i, 1));
    if (!match_stops_) {
      AppendText(piece);
      EndToken();
      continue;
    }
    text::StopMatcher::Result result = matcher_.Append(piece);
    AppendText(result.text);
    if (result.match.has_value()) content_.Finish();
    EndToken();
    if (result.match.has_value()) {
      matched_stop_ = *std::move(result.match);
      return true;
    }
  }
  return false;
}

void ChoiceOutput::AppendText(std::string_view text) {
  text_.append(text);
  content_.Append(text);
}

// The newest token's, unless it is there already.
void ChoiceOutput::EndToken() {
  ends_.resize(tokens_.size());
  ends_.back() = {.text = text_.size(), .content = content_.PartEnd(content_end(size() - 2))};
}

void ChoiceOutput::Finish() {
  const std::string rest = detokenizer_.Finish();
  if (match_stops_) {
    text::StopMatcher::Result result = matcher_.Append(rest);
    AppendText(result.text);
    if (!result.match.has_value()) AppendText(matcher_.Finish());
  } else {
    AppendText(rest);
  }
  content_.Finish();
  // The tail belongs to the last token, unless that is on its way already.
  if (sent_tokens_ < size()) EndToken();
}

void ChoiceOutput::Truncate(int count) {
  if (count >= size()) return;
  tokens_.resize(count);
  ends_.resize(count);
  if (logprobs_wanted_) logprobs_.resize(count);
  text_.resize(count == 0 ? 0 : ends_.back().text);
  content_.Truncate(content_end(count - 1));
  sent_tokens_ = std::min(sent_tokens_, count);
  sent_content_ = std::min(sent_content_, content_.size());
}

void ChoiceOutput::SetSent(int tokens) {
  sent_tokens_ = std::min(tokens, size());
  sent_content_ = content_end(sent_tokens_ - 1);
}

void ChoiceOutput::TakeDelta(int64_t* budget, v1::Delta* delta) {
  const int first = sent_tokens_;
  const size_t part_end = content_.PartEnd(sent_content_);
  int next = first;
  // Bounds on the bytes of a token, of a character of text and of a log-probability in the message.
  *budget -= 32;
  while (next < size()) {
    if (next > first && content_end(next) > part_end) break;
    int64_t cost = 5 + static_cast<int64_t>(content_end(next) - content_end(next - 1));
    if (logprobs_wanted_) cost += static_cast<int64_t>(logprobs_[next].ByteSizeLong()) + 4;
    if (next > first && cost > *budget) break;
    *budget -= cost;
    ++next;
  }
  delta->set_first_token_index(first);
  delta->mutable_token_ids()->Add(tokens_.begin() + first, tokens_.begin() + next);
  if (logprobs_wanted_) delta->mutable_logprobs()->Add(logprobs_.begin() + first, logprobs_.begin() + next);
  const size_t content_end = next == first ? part_end : ends_[next - 1].content;
  content_.Fill(sent_content_, content_end, delta);
  sent_tokens_ = next;
  sent_content_ = content_end;
}

}  // namespace berth::service
