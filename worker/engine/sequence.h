#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace berth::engine {

// Chosen by the caller, never used twice by one engine. One choice of a request is one sequence.
using SequenceId = uint64_t;

// Sampling parameters as they travel in a StepPlan: trivially copyable, and defaults change nothing.
struct Sampling {
  float temperature = 1;  // 0: greedy
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;             // 0: off
  float repetition_penalty = 1;  // over prompt and output
  float presence_penalty = 0;    // over output
  float frequency_penalty = 0;   // over output
  int32_t logprobs = -1;         // alternatives to report; -1: none
  uint64_t seed = 0;
  int32_t choice = 0;  // with seed and position the key of every draw
  int32_t reserved = 0;
};

// Which tokens one sequence may draw next, given those before. Thread: the engine's, or whoever owns it before it is added.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Words of a mask: a bit per token id, from the lowest bit of the first word on, set where the token may come.
  virtual int mask_words() const = 0;
  virtual void FillMask(absl::Span<uint32_t> mask) = 0;
  virtual void Accept(int32_t token) = 0;
};

// What the engine is asked to continue.
struct SequenceSpec {
  SequenceId id = 0;
  std::vector<int32_t> tokens;  // the prompt, then output of an earlier attempt that is being resumed
  int prompt_length = 0;        // tokens from here on count as output
  int max_tokens = 0;           // output tokens, resumed ones included, after which it finishes with kLength
  int min_tokens = 0;           // stop tokens are banned before this many output tokens
  Sampling sampling;
  std::vector<int32_t> stop_tokens;  // any of these ends it; the token counts as output
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<std::vector<int32_t>> bad_words;  // token sequences never completed
  int priority = 0;                             // higher runs first and is preempted last
  uint64_t cache_salt = 0;  // prefixes are shared only among equal salts (tenant, adapter, RoPE variant, KV dtype)
  int rope_variant = 0;
  // No token is drawn: it finishes with the sum of its tokens' hidden states. Needs all of them, so the cache is not looked at.
  bool pool = false;
  // The log-probabilities of the prompt's tokens are reported, with the alternatives that `sampling` asks for, as the model has
  // them: without penalties, biases and bans. `max_tokens` may be 0 then. What is not scored yet is not taken from the cache.
  bool score_prompt = false;
  std::shared_ptr<TokenConstraint> constraint;  // has accepted the output in `tokens`; null: any token
  // Choices 1 … n-1 of a request name choice 0 here and start when its prompt is in the cache, so that the prompt's full
  // blocks are computed once. 0: none.
  SequenceId share_prompt_of = 0;
  absl::Duration deadline = absl::InfiniteDuration();  // on the engine's monotonic clock
};

enum class FinishReason : uint8_t {
  kNone,
  kStopToken,
  kLength,
  kFinished,  // Engine::Finish: a stop string matched; or the sum of a pooled sequence is there
  kCancelled,
  kDeadline,
  kError,  // UpdateDetails::error tells
};

struct TokenLogprobs {
  float logprob = 0;                           // of the token itself
  std::vector<std::pair<int32_t, float>> top;  // by falling probability
};

// What few updates have.
struct UpdateDetails {
  std::vector<TokenLogprobs> logprobs;         // one per token when asked for
  std::vector<TokenLogprobs> prompt_logprobs;  // the next ones of the prompt, from its second token on; all before any output
  std::vector<float> hidden_sum;               // of a pooled sequence: over its tokens, of what the final norm made of them
  std::string error;  // with kError: canonical code, colon, text; a device fault is UNAVAILABLE, a NaN INTERNAL
};

// What one step did to one sequence. One cache line: a step has hundreds of them, which change threads.
struct SequenceUpdate {
  SequenceId id = 0;
  absl::InlinedVector<int32_t, 2> tokens;  // new output
  bool started = false;                    // first update: cached_tokens is set
  FinishReason finish = FinishReason::kNone;
  int cached_tokens = 0;                        // prompt tokens found in the prefix cache
  int output_tokens = 0;                        // with finish: the final count of output tokens, after any truncation
  std::unique_ptr<UpdateDetails> made_details;  // null: none

  const UpdateDetails& details() const {
    static const UpdateDetails kNone;
    return made_details == nullptr ? kNone : *made_details;
  }
  UpdateDetails& MakeDetails() {
    if (made_details == nullptr) made_details = std::make_unique<UpdateDetails>();
    return *made_details;
  }
};
static_assert(sizeof(SequenceUpdate) <= 64);

}  // namespace berth::engine
