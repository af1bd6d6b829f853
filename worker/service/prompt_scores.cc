#include "worker/service/prompt_scores.h"

#include <string>

namespace berth::service {

v1::TokenLogprob MakeLogprob(const text::Tokenizer& tokenizer, int32_t token, const engine::TokenLogprobs& logprobs) {
  v1::TokenLogprob out;
  out.set_token_id(token);
  out.set_logprob(logprobs.logprob);
  out.set_token(std::string(tokenizer.TokenBytes(token, true)));
  for (const auto& [id, logprob] : logprobs.top) {
    v1::TokenLogprob::Alternative& alternative = *out.add_alternatives();
    alternative.set_token_id(id);
    alternative.set_logprob(logprob);
    alternative.set_token(std::string(tokenizer.TokenBytes(id, true)));
  }
  return out;
}

void PromptScores::TakeDelta(int64_t* budget, v1::Delta* delta) {
  do {
    const engine::TokenLogprobs& score = sent_ == 0 ? engine::TokenLogprobs() : scores_[sent_ - 1];
    v1::TokenLogprob& out = *delta->add_prompt_logprobs();
    out = MakeLogprob(*tokenizer_, tokens_[sent_++], score);
    *budget -= static_cast<int64_t>(out.ByteSizeLong()) + 4;
  } while (has_unsent() && *budget > 0);
}

}  // namespace berth::service
