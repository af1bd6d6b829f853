#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "worker/engine/executor.h"
#include "worker/engine/sequence.h"

namespace berth::runtime {

// The simulated model: token k is a hash of all tokens before k, the choice and the seed. Whoever loses, repeats or swaps one
// token anywhere gets another text from there on. Pure functions, the same on every machine.

struct SimVocabulary {
  int32_t begin = 0;  // tokens are drawn from begin … end - 1
  int32_t end = 0;
  double stop_probability = 0;  // of a stop token at each position that allows one; 0: never
  // A prompt may dictate its output: the tokens between the last `script_begin` and `script_end`, then a stop token. The output
  // begins `opening_size` tokens behind the one `message` that follows the script, or right behind the script. -1: not offered.
  int32_t script_begin = -1, script_end = -1, message = -1;
  int opening_size = 0;
};

// What of a sequence bears on its draws.
struct SimDrawRules {
  engine::Sampling sampling;  // seed, choice and logprobs
  int min_length = 0;
  std::vector<int32_t> stop_tokens;
  std::vector<std::pair<int32_t, float>> logit_bias;  // only -infinity: a ban
};

inline constexpr uint64_t kSimEmptyState = 0x6265727468;

// The state after one more token, starting from kSimEmptyState: what the simulated KV cache holds at the token's position.
uint64_t SimAdvance(uint64_t state, int32_t token);

// The token at `position` after a prefix of that many tokens which left `state`; -1 when none is allowed. Without `logprobs`
// (may be null) nothing of them is computed.
int32_t SimDraw(const SimVocabulary& vocabulary, const SimDrawRules& rules, uint64_t state, int position,
                engine::TokenLogprobs* logprobs);

// How probable the model finds a given `token` there: as it reports its own draw, and less when it would have drawn another.
engine::TokenLogprobs SimScore(const SimVocabulary& vocabulary, const SimDrawRules& rules, uint64_t state, int position,
                               int32_t token);

// A simulated hidden state, as a sequence's sum gets it added.
inline constexpr int kSimHidden = 16;
void SimAddHidden(uint64_t state, std::vector<float>& sum);

struct SimScript {
  std::vector<int32_t> tokens;
  int position = 0;  // of the first
};

// What `history`, a prompt and maybe some output, dictates; nothing in most cases.
std::optional<SimScript> FindSimScript(const SimVocabulary& vocabulary, absl::Span<const int32_t> history);

// All output of a sequence that runs alone and undisturbed, given output included.
std::vector<int32_t> SimOutput(const SimVocabulary& vocabulary, const engine::SequenceSpec& spec);

}  // namespace berth::runtime
