#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "base/check.h"
#include "kernels/cpu/philox.h"
#include "kernels/cpu/stages.h"
#include "kernels/cpu/vector_math.h"

namespace berth::kernels::cpu {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr float kMostLogit = std::numeric_limits<float>::max();

SlotSampling LoadParams(const SampleArgs& args, int32_t slot) {
  BERTH_CHECK(slot >= 0 && slot < args.params.dim(0)) << "slot " << slot << " of " << args.params.dim(0);
  SlotSampling params;
  std::memcpy(&params, args.params.data<uint8_t>() + slot * args.params.stride(0), sizeof(params));
  return params;
}

// Bans what the tokenizer, the bitmask and the edits forbid. Infinite logits become finite, so that differences of logits are
// numbers; a banned token stays banned.
void ApplyMaskAndEdits(const SampleArgs& args, int64_t r, absl::Span<float> logits) {
  for (float& logit : logits) logit = std::min(logit, kMostLogit);
  std::fill(logits.begin() + args.tokenizer_size, logits.end(), kBanned);
  if (!args.bitmask.empty()) {
    const uint32_t* mask = args.bitmask.data<uint32_t>() + r * args.bitmask.stride(0);
    for (int id = 0; id < args.tokenizer_size; ++id) {
      if ((mask[id / 32] >> (id % 32) & 1) == 0) logits[id] = kBanned;
    }
  }
  if (args.edit_start.empty()) return;
  const int32_t* start = args.edit_start.data<int32_t>() + r;
  for (int32_t e = start[0]; e < start[1]; ++e) {
    const int32_t token = args.edit_token.data<int32_t>()[e];
    BERTH_CHECK(token >= 0 && token < static_cast<int32_t>(logits.size())) << "edit of token " << token;
    if (logits[token] == kBanned) continue;
    logits[token] = std::min(logits[token] + args.edit_value.data<float>()[e], kMostLogit);
  }
}

void ApplyPenalties(const SlotSampling& params, const uint32_t* counts, absl::Span<float> logits) {
  if (params.repetition_penalty == 1 && params.presence_penalty == 0 && params.frequency_penalty == 0) return;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (counts[id] == 0) continue;
    float& logit = logits[id];
    logit = logit > 0 ? std::min(logit / params.repetition_penalty, kMostLogit) : logit * params.repetition_penalty;
    const uint32_t generated = counts[id] & ~kTokenInPrompt;
    if (generated > 0) logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(generated);
  }
}

// Falling by logit, equal logits by rising id.
struct Better {
  const float* logits;
  bool operator()(int32_t a, int32_t b) const { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; }
};

// The tokens that top-k, top-p and min-p leave, by id. `weights` are proportional to the probabilities, the best token's is 1.
std::vector<int32_t> Candidates(const SlotSampling& params, const float* logits, const std::vector<float>& weights) {
  std::vector<int32_t> ids;
  for (size_t id = 0; id < weights.size(); ++id) {
    if (weights[id] > 0) ids.push_back(static_cast<int32_t>(id));
  }
  const Better better{logits};
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < ids.size()) {
    std::nth_element(ids.begin(), ids.begin() + params.top_k, ids.end(), better);
    ids.resize(params.top_k);
  }
  if (params.top_p < 1) {
    double total = 0;
    for (int32_t id : ids) total += weights[id];
    const auto worse = [&](int32_t a, int32_t b) { return better(b, a); };
    // The heap's end holds the best tokens taken so far, in order; most distributions need few.
    std::make_heap(ids.begin(), ids.end(), worse);
    auto heap_end = ids.end();
    double taken = 0;
    do {
      std::pop_heap(ids.begin(), heap_end--, worse);
      taken += weights[*heap_end];
    } while (taken < params.top_p * total && heap_end != ids.begin());
    ids.erase(ids.begin(), heap_end);
  }
  if (params.min_p > 0) {
    ids.erase(std::remove_if(ids.begin(), ids.end(), [&](int32_t id) { return weights[id] < params.min_p; }), ids.end());
  }
  if (params.top_k > 0 || params.top_p < 1) std::sort(ids.begin(), ids.end());
  return ids;
}

int32_t Draw(const SlotSampling& params, uint32_t position, const float* logits, float highest, std::vector<float>& weights) {
  ExpShifted(logits, highest, std::min(1 / params.temperature, kMostLogit), weights.data(),
             static_cast<int64_t>(weights.size()));
  const std::vector<int32_t> ids = Candidates(params, logits, weights);
  double total = 0;
  for (int32_t id : ids) total += weights[id];
  const double target = DrawUniform(params.seed, static_cast<uint32_t>(params.choice), position) * total;
  double sum = 0;
  for (int32_t id : ids) {
    sum += weights[id];
    if (sum > target) return id;
  }
  return ids.back();
}

void ReportTop(const SampleArgs& args, int64_t r, int count, double log_total, absl::Span<const float> logits) {
  int32_t* token = args.top_token.data<int32_t>() + r * args.top_token.stride(0);
  float* logprob = args.top_logprob.data<float>() + r * args.top_logprob.stride(0);
  std::vector<int32_t> ids;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] != kBanned) ids.push_back(static_cast<int32_t>(id));
  }
  const auto end = ids.begin() + std::min<int64_t>({count, kMaxLogprobs, static_cast<int64_t>(ids.size())});
  std::partial_sort(ids.begin(), end, ids.end(), Better{logits.data()});
  for (auto id = ids.begin(); id != end; ++id) {
    *token++ = *id;
    *logprob++ = static_cast<float>(logits[*id] - log_total);
  }
}

// log Σ exp(logit).
double LogTotal(absl::Span<const float> logits, float highest, std::vector<float>& scratch) {
  ExpShifted(logits.data(), highest, 1, scratch.data(), static_cast<int64_t>(logits.size()));
  return highest + std::log(Sum(scratch.data(), static_cast<int64_t>(logits.size())));
}

bool TakesHighest(const SlotSampling& params) {
  return params.temperature == 0 && params.repetition_penalty == 1 && params.presence_penalty == 0 &&
         params.frequency_penalty == 0 && params.logprobs < 0;
}

void SampleRow(const SampleArgs& args, int64_t r) {
  const int64_t vocab = args.logits.dim(1);
  const absl::Span<float> logits(args.logits.data<float>() + r * args.logits.stride(0), vocab);
  int32_t& token = args.token.data<int32_t>()[r];
  float& logprob = args.logprob.data<float>()[r];
  token = -1;
  logprob = 0;
  const int32_t slot = args.slot.data<int32_t>()[r];
  if (!args.top_token.empty()) {
    std::fill_n(args.top_token.data<int32_t>() + r * args.top_token.stride(0), kMaxLogprobs, -1);
    std::fill_n(args.top_logprob.data<float>() + r * args.top_logprob.stride(0), kMaxLogprobs, kBanned);
  }
  const SlotSampling params = LoadParams(args, slot);
  BERTH_CHECK(!args.greedy || TakesHighest(params)) << "row " << r << " is not greedy";
  if (IndexOfMax(logits.data(), vocab) < 0) return;
  ApplyMaskAndEdits(args, r, logits);
  if (args.target.empty()) ApplyPenalties(params, args.counts.data<uint32_t>() + slot * args.counts.stride(0), logits);
  const int32_t best = static_cast<int32_t>(IndexOfMax(logits.data(), vocab));
  if (best < 0 || logits[best] == kBanned) return;
  std::vector<float> weights(params.temperature > 0 || params.logprobs >= 0 ? vocab : 0);
  if (!args.target.empty()) {
    token = args.target.data<int32_t>()[r];
    BERTH_CHECK(token >= 0 && token < args.tokenizer_size) << "target " << token;
  } else if (params.temperature > 0) {
    token = Draw(params, static_cast<uint32_t>(args.position.data<int32_t>()[r]), logits.data(), logits[best], weights);
  } else {
    token = best;
  }
  if (params.logprobs >= 0) {
    const double log_total = LogTotal(logits, logits[best], weights);
    logprob = static_cast<float>(logits[token] - log_total);
    if (!args.top_token.empty()) ReportTop(args, r, params.logprobs, log_total, logits);
  }
}

// Rows that fill a step up share a slot, so this is not for several threads.
void StoreDraws(const SampleArgs& args) {
  for (int64_t r = 0; r < args.logits.dim(0); ++r) {
    const int32_t slot = args.slot.data<int32_t>()[r], token = args.token.data<int32_t>()[r];
    if (token >= 0) ++args.counts.data<uint32_t>()[slot * args.counts.stride(0) + token];
    if (!args.last_token.empty()) args.last_token.data<int32_t>()[slot] = std::max(token, 0);
  }
}

}  // namespace

void Sample(Context& context, const SampleArgs& args) {
  context.pool.Run(static_cast<int>(args.logits.dim(0)), [&](int row, int) { SampleRow(args, row); });
  if (args.target.empty()) StoreDraws(args);
}

}  // namespace berth::kernels::cpu
