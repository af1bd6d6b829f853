#include "worker/runtime/sim_token.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/hash.h"

namespace berth::runtime {
namespace {

double Unit(uint64_t hash) { return static_cast<double>(hash >> 11) * 0x1p-53; }

bool Allowed(const SimDrawRules& rules, int32_t token) {
  const auto& stops = rules.stop_tokens;
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) return false;
  return std::none_of(rules.logit_bias.begin(), rules.logit_bias.end(),
                      [token](const auto& bias) { return bias.first == token && bias.second == -INFINITY; });
}

// The first allowed token from `offset` on, cyclically; -1 when there is none.
int32_t NextAllowed(const SimVocabulary& vocabulary, const SimDrawRules& rules, uint64_t offset) {
  const uint64_t size = vocabulary.end - vocabulary.begin;
  for (uint64_t i = 0; i < size; ++i) {
    const auto token = static_cast<int32_t>(vocabulary.begin + (offset + i) % size);
    if (Allowed(rules, token)) return token;
  }
  return -1;
}

}  // namespace

uint64_t SimAdvance(uint64_t state, int32_t token) { return base::HashCombine(state, static_cast<uint32_t>(token)); }

int32_t SimDraw(const SimVocabulary& vocabulary, const SimDrawRules& rules, uint64_t state, int position,
                engine::TokenLogprobs* logprobs) {
  const uint64_t hash = base::HashCombine(base::HashCombine(state, rules.sampling.seed), rules.sampling.choice);
  const bool may_stop = !rules.stop_tokens.empty() && position >= rules.min_length;
  int32_t token = 0;
  if (may_stop && Unit(base::HashCombine(hash, 1)) < vocabulary.stop_probability) {
    token = rules.stop_tokens[hash % rules.stop_tokens.size()];
  } else {
    token = NextAllowed(vocabulary, rules, hash);
  }
  if (token < 0 || logprobs == nullptr || rules.sampling.logprobs < 0) return token;
  logprobs->logprob = static_cast<float>(-0.01 - Unit(base::HashCombine(hash, 2)));
  int32_t alternative = token;
  for (int i = 0; i < rules.sampling.logprobs; ++i) {
    logprobs->top.emplace_back(alternative, logprobs->logprob - static_cast<float>(i));
    alternative = NextAllowed(vocabulary, rules, alternative - vocabulary.begin + 1);
  }
  return token;
}

engine::TokenLogprobs SimScore(const SimVocabulary& vocabulary, const SimDrawRules& rules, uint64_t state, int position,
                               int32_t token) {
  engine::TokenLogprobs logprobs;
  if (SimDraw(vocabulary, rules, state, position, &logprobs) == token) return logprobs;
  logprobs.logprob -= static_cast<float>(1 + Unit(SimAdvance(state, token)));
  return logprobs;
}

void SimAddHidden(uint64_t state, std::vector<float>& sum) {
  sum.resize(kSimHidden);
  for (int i = 0; i < kSimHidden; ++i) sum[i] += static_cast<float>(2 * Unit(base::HashCombine(state, i)) - 1);
}

std::optional<SimScript> FindSimScript(const SimVocabulary& vocabulary, absl::Span<const int32_t> history) {
  if (vocabulary.script_begin < 0) return std::nullopt;
  const auto first = std::find(history.rbegin(), history.rend(), vocabulary.script_begin).base();
  const auto last = std::find(first, history.end(), vocabulary.script_end);
  if (first == history.begin() || last == history.end()) return std::nullopt;
  // An earlier turn's.
  if (std::count(last, history.end(), vocabulary.message) > 1) return std::nullopt;
  SimScript script{.tokens = {first, last}, .position = static_cast<int>(last - history.begin()) + 1};
  const auto message = std::find(history.rbegin(), std::make_reverse_iterator(last), vocabulary.message).base();
  if (message != last) script.position = static_cast<int>(message - history.begin()) + vocabulary.opening_size;
  return script;
}

std::vector<int32_t> SimOutput(const SimVocabulary& vocabulary, const engine::SequenceSpec& spec) {
  const SimDrawRules rules{.sampling = spec.sampling,
                           .min_length = spec.prompt_length + spec.min_tokens,
                           .stop_tokens = spec.stop_tokens,
                           .logit_bias = spec.logit_bias};
  const auto is_stop = [&rules](int32_t token) {
    return std::find(rules.stop_tokens.begin(), rules.stop_tokens.end(), token) != rules.stop_tokens.end();
  };
  std::vector<int32_t> output(spec.tokens.begin() + spec.prompt_length, spec.tokens.end());
  uint64_t state = kSimEmptyState;
  for (const int32_t token : spec.tokens) state = SimAdvance(state, token);
  while (static_cast<int>(output.size()) < spec.max_tokens && (output.empty() || !is_stop(output.back()))) {
    const int position = spec.prompt_length + static_cast<int>(output.size());
    const int32_t token = SimDraw(vocabulary, rules, state, position, nullptr);
    if (token < 0) break;
    output.push_back(token);
    state = SimAdvance(state, token);
  }
  return output;
}

}  // namespace berth::runtime
