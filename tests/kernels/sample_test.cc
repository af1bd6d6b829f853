#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/philox.h"
#include "tests/kernels/support.h"

namespace berth::kernels {
namespace {

struct Edit {
  int32_t token;
  float value;
};

// One row to sample, and what came of it.
struct RowIn {
  std::vector<float> logits;
  SlotSampling params;
  int32_t position = 0;
  std::vector<uint32_t> counts = {};
  std::vector<Edit> edits = {};
  std::vector<uint32_t> bitmask = {};
};

struct RowOut {
  int32_t token;
  float logprob;
  std::vector<int32_t> top_token;
  std::vector<float> top_logprob;
  std::vector<uint32_t> counts;
};

// Samples `rows`, which have one vocabulary size, in one call. Row i uses slot (i + shift) % rows.
std::vector<RowOut> SampleRows(const std::vector<RowIn>& rows, int shift = 0, int tokenizer_size = -1, int threads = 1) {
  const int count = static_cast<int>(rows.size()), vocab = static_cast<int>(rows[0].logits.size());
  std::vector<float> logits, edit_value, logprob(count), top_logprob(count * kMaxLogprobs);
  std::vector<int32_t> slot, position, edit_start = {0}, edit_token, token(count, -7), top_token(count * kMaxLogprobs);
  std::vector<uint32_t> bitmask, counts(count * vocab);
  std::vector<SlotSampling> params(count);
  for (int i = 0; i < count; ++i) {
    const RowIn& row = rows[i];
    logits.insert(logits.end(), row.logits.begin(), row.logits.end());
    slot.push_back((i + shift) % count);
    params[slot[i]] = row.params;
    position.push_back(row.position);
    std::copy(row.counts.begin(), row.counts.end(), counts.begin() + slot[i] * vocab);
    for (const Edit& edit : row.edits) {
      edit_token.push_back(edit.token);
      edit_value.push_back(edit.value);
    }
    edit_start.push_back(static_cast<int32_t>(edit_token.size()));
    std::vector<uint32_t> mask = row.bitmask;
    mask.resize((vocab + 31) / 32, row.bitmask.empty() ? ~0u : 0u);
    bitmask.insert(bitmask.end(), mask.begin(), mask.end());
  }
  const auto ops = MakeCpuOps({.threads = threads});
  ops->Sample({.logits = Tensor(logits.data(), DType::kF32, {count, vocab}),
               .slot = Ints(slot),
               .position = Ints(position),
               .params = Tensor(params.data(), DType::kU8, {count, sizeof(SlotSampling)}),
               .counts = Tensor(counts.data(), DType::kU32, {count, vocab}),
               .edit_start = Ints(edit_start),
               .edit_token = Ints(edit_token),
               .edit_value = Floats(edit_value),
               .bitmask = Tensor(bitmask.data(), DType::kU32, {count, (vocab + 31) / 32}),
               .tokenizer_size = tokenizer_size < 0 ? vocab : tokenizer_size,
               .token = Ints(token),
               .logprob = Floats(logprob),
               .top_token = Tensor(top_token.data(), DType::kI32, {count, kMaxLogprobs}),
               .top_logprob = Tensor(top_logprob.data(), DType::kF32, {count, kMaxLogprobs})});
  std::vector<RowOut> out;
  for (int i = 0; i < count; ++i) {
    const auto top = top_token.begin() + i * kMaxLogprobs;
    const auto top_log = top_logprob.begin() + i * kMaxLogprobs;
    const auto first_count = counts.begin() + slot[i] * vocab;
    out.push_back({token[i],
                   logprob[i],
                   {top, top + kMaxLogprobs},
                   {top_log, top_log + kMaxLogprobs},
                   {first_count, first_count + vocab}});
  }
  return out;
}

RowOut SampleOne(const RowIn& row, int tokenizer_size = -1) { return SampleRows({row}, 0, tokenizer_size)[0]; }

// How often each token is drawn at positions 0, 1, ….
std::vector<int> Histogram(const RowIn& row, int draws) {
  std::vector<RowIn> rows(draws, row);
  for (int i = 0; i < draws; ++i) rows[i].position = i;
  std::vector<int> histogram(row.logits.size());
  for (const RowOut& out : SampleRows(rows)) ++histogram.at(out.token);
  return histogram;
}

std::vector<double> Softmax(const std::vector<float>& logits, double temperature = 1) {
  std::vector<double> out;
  for (float logit : logits) out.push_back(std::exp(logit / temperature));
  const double total = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& p : out) p /= total;
  return out;
}

// The draws fit the probabilities: Σ (seen - expected)² / expected is below mean + 5 standard deviations of chi-square.
void ExpectFits(const std::vector<int>& histogram, const std::vector<double>& probability) {
  const int draws = std::accumulate(histogram.begin(), histogram.end(), 0);
  double chi_square = 0;
  int freedom = -1;
  for (size_t i = 0; i < histogram.size(); ++i) {
    if (probability[i] == 0) {
      EXPECT_EQ(histogram[i], 0) << "token " << i;
      continue;
    }
    const double expected = draws * probability[i];
    chi_square += (histogram[i] - expected) * (histogram[i] - expected) / expected;
    ++freedom;
  }
  EXPECT_LE(chi_square, freedom + 5 * std::sqrt(2.0 * freedom));
}

// Keeps `kept` of the probabilities and scales them to 1.
std::vector<double> Renormalised(std::vector<double> probability, const std::vector<int>& kept) {
  double total = 0;
  for (int id : kept) total += probability[id];
  for (size_t i = 0; i < probability.size(); ++i) {
    const bool keep = std::find(kept.begin(), kept.end(), static_cast<int>(i)) != kept.end();
    probability[i] = keep ? probability[i] / total : 0;
  }
  return probability;
}

// Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(cpu::Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(cpu::Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(cpu::Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformDependsOnEverythingAndStaysBelowOne) {
  const double base = cpu::DrawUniform(1, 0, 0);
  EXPECT_NE(base, cpu::DrawUniform(2, 0, 0));
  EXPECT_NE(base, cpu::DrawUniform(1 + (uint64_t{1} << 32), 0, 0));
  EXPECT_NE(base, cpu::DrawUniform(1, 1, 0));
  EXPECT_NE(base, cpu::DrawUniform(1, 0, 1));
  double mean = 0;
  for (int i = 0; i < 1000; ++i) {
    const double u = cpu::DrawUniform(3, 0, i);
    ASSERT_TRUE(u >= 0 && u < 1);
    mean += u / 1000;
  }
  EXPECT_NEAR(mean, 0.5, 0.05);
}

TEST(Greedy, TakesTheLowestIdAmongEqualLogits) {
  EXPECT_EQ(SampleOne({.logits = {1, 3, 2, 3, 3}, .params = {.temperature = 0}}).token, 1);
  EXPECT_EQ(SampleOne({.logits = {0, 0, 0}, .params = {.temperature = 0}}).token, 0);
}

TEST(Greedy, InfiniteLogits) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(SampleOne({.logits = {1, infinity, 2, infinity}, .params = {.temperature = 0}}).token, 1);
  const RowOut drawn = SampleOne({.logits = {1, infinity, 2}, .params = {.logprobs = 0}});
  EXPECT_EQ(drawn.token, 1);
  EXPECT_EQ(drawn.logprob, 0);
}

TEST(Invalid, NanRowAndNothingAllowedGiveNoToken) {
  for (float temperature : {0.f, 1.f}) {
    const SlotSampling params{.temperature = temperature, .logprobs = 2};
    const std::vector<RowOut> out = SampleRows({{.logits = {1, kNan, 2}, .params = params},
                                                {.logits = {1, 5, 2}, .params = params, .bitmask = {0}},
                                                {.logits = {1, 5, 2}, .params = params}});
    EXPECT_EQ(out[0].token, -1);
    EXPECT_EQ(out[1].token, -1);
    EXPECT_EQ(out[0].counts, std::vector<uint32_t>(3));
    EXPECT_EQ(out[0].top_token[0], -1);
    EXPECT_EQ(out[1].top_token[0], -1);
    EXPECT_GE(out[2].token, 0);
  }
}

// The smallest temperatures and penalties make no infinities: where they would, the best token is drawn.
TEST(Extremes, DrawAToken) {
  const RowIn row{.logits = {1, 5, 6, -2, 3, 2, 0, 1}, .counts = {0, kTokenInPrompt, kTokenInPrompt, 0, 0, 0, 0, 0}};
  for (float top_p : {1.f, 0.9f}) {
    RowIn cold = row, raised = row;
    cold.params = {.temperature = 1e-40f, .top_p = top_p};
    EXPECT_EQ(SampleOne(cold).token, 2);
    raised.params = {.top_p = top_p, .repetition_penalty = 1e-38f};
    EXPECT_THAT(SampleOne(raised).token, testing::AnyOf(1, 2));
  }
}

// Wherever in the row it is, whole vectors and their rest.
TEST(Greedy, FindsTheFirstOfEqualsAndEveryNan) {
  const SlotSampling greedy{.temperature = 0};
  for (int i = 0; i < 37; ++i) {
    std::vector<float> logits(37, -1.f);
    logits[36] = logits[i] = 2;
    EXPECT_EQ(SampleOne({.logits = logits, .params = greedy}).token, i);
    logits[i] = kNan;
    EXPECT_EQ(SampleOne({.logits = logits, .params = greedy}).token, -1) << i;
  }
}

TEST(Masks, ForbidTokens) {
  const SlotSampling greedy{.temperature = 0};
  std::vector<float> logits(70);
  std::iota(logits.begin(), logits.end(), 0.f);
  EXPECT_EQ(SampleOne({.logits = logits, .params = greedy}, 40).token, 39);
  EXPECT_EQ(SampleOne({.logits = logits, .params = greedy, .bitmask = {~0u, 1u << 3, 0}}).token, 35);
  const float ban = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(SampleOne({.logits = logits, .params = greedy, .edits = {{69, ban}, {68, -2.5f}, {3, 66}}}).token, 3);
  // No edit brings back what the mask forbids.
  EXPECT_EQ(SampleOne({.logits = logits, .params = greedy, .edits = {{5, -ban}}, .bitmask = {1u << 2}}).token, 2);
}

// Row by row: edits of one row leave its neighbours alone.
TEST(Masks, EditsBelongToTheirRow) {
  const RowIn plain{.logits = {1, 2, 3}, .params = {.temperature = 0}};
  RowIn edited = plain;
  edited.edits = {{0, 9}};
  const std::vector<RowOut> out = SampleRows({plain, edited, plain}, 1);
  EXPECT_EQ(out[0].token, 2);
  EXPECT_EQ(out[1].token, 0);
  EXPECT_EQ(out[2].token, 2);
}

// Log-probabilities show the logits after the penalties, up to a common constant.
TEST(Penalties, FollowTheirFormulas) {
  RowIn row{.logits = {2, -2, 2, 2, 0}, .params = {.temperature = 0, .logprobs = 5}};
  row.counts = {kTokenInPrompt, 3, 0, kTokenInPrompt | 2, 0};
  row.params.repetition_penalty = 2;
  row.params.presence_penalty = 0.5f;
  row.params.frequency_penalty = 0.25f;
  const std::vector<float> want = {1, -4 - 0.5f - 0.75f, 2, 1 - 0.5f - 0.5f, 0};
  const RowOut out = SampleOne(row);
  EXPECT_EQ(out.token, 2);
  const std::vector<double> probability = Softmax(want);
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(out.top_logprob[i], std::log(probability[out.top_token[i]]), 1e-5) << i;
}

TEST(Penalties, CountWhatIsDrawn) {
  RowIn row{.logits = {1, 2}, .params = {.temperature = 0}, .counts = {5, kTokenInPrompt | 1}};
  EXPECT_EQ(SampleOne(row).counts, (std::vector<uint32_t>{5, kTokenInPrompt | 2}));
}

TEST(Admit, StoresParametersAndCountsTheHistory) {
  std::vector<SlotSampling> params(2), slot_params(3);
  params[0] = {.temperature = 0.5f, .seed = 7};
  params[1] = {.top_k = 3, .choice = 2};
  std::vector<int32_t> slot = {2, 0}, start = {0, 6, 6}, prompt = {3, 4}, history = {2, 3, 3, 5, 5, 2};
  std::vector<uint32_t> counts(3 * 6, 9);
  MakeCpuOps({.threads = 2})
      ->Admit({.slot = Ints(slot),
               .params = Tensor(params.data(), DType::kU8, {2, sizeof(SlotSampling)}),
               .history_start = Ints(start),
               .prompt_length = Ints(prompt),
               .history = Ints(history),
               .slot_params = Tensor(slot_params.data(), DType::kU8, {3, sizeof(SlotSampling)}),
               .slot_counts = Tensor(counts.data(), DType::kU32, {3, 6})});
  EXPECT_EQ(slot_params[2].temperature, 0.5f);
  EXPECT_EQ(slot_params[2].seed, 7u);
  EXPECT_EQ(slot_params[0].top_k, 3);
  EXPECT_EQ(slot_params[0].choice, 2);
  EXPECT_EQ(slot_params[1].top_k, 0);
  const uint32_t in_prompt = kTokenInPrompt;
  EXPECT_EQ(counts, (std::vector<uint32_t>{0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 0, 0, in_prompt + 1, in_prompt, 0, 2}));
}

TEST(LastToken, FollowsTheDrawAndIsAlwaysAToken) {
  std::vector<float> logits = {1, 2, 0, 0, 0, 3, kNan, 0, 0}, logprob(3);
  std::vector<int32_t> slot = {3, 0, 1}, position = {1, 1, 1}, token(3), last = {7, 7, 7, 7};
  std::vector<SlotSampling> params(4, {.temperature = 0});
  std::vector<uint32_t> counts(4 * 3);
  MakeCpuOps({.threads = 1})
      ->Sample({.logits = Tensor(logits.data(), DType::kF32, {3, 3}),
                .slot = Ints(slot),
                .position = Ints(position),
                .params = Tensor(params.data(), DType::kU8, {4, sizeof(SlotSampling)}),
                .counts = Tensor(counts.data(), DType::kU32, {4, 3}),
                .last_token = Ints(last),
                .tokenizer_size = 3,
                .token = Ints(token),
                .logprob = Floats(logprob)});
  EXPECT_EQ(token, (std::vector<int32_t>{1, 2, -1}));
  EXPECT_EQ(last, (std::vector<int32_t>{2, 0, 7, 1}));
}

// The uniform number falls into the kept tokens by id, however they rank.
TEST(Distribution, KeptTokensLieInOrderOfId) {
  const std::vector<float> logits = {0, 3, 2.9f, 3.1f, 0};
  for (const SlotSampling& filter : {SlotSampling{.top_k = 3}, SlotSampling{.top_p = 0.9f}, SlotSampling{.min_p = 0.5f}}) {
    SlotSampling params = filter;
    params.seed = 3;
    for (int position = 0; position < 50; ++position) {
      const double u = cpu::DrawUniform(3, 0, position);
      const int32_t want = u < 0.332 ? 1 : u < 0.632 ? 2 : 3;
      const bool close = std::abs(u - 0.3322) < 0.002 || std::abs(u - 0.6328) < 0.002;
      const RowOut out = SampleOne({.logits = logits, .params = params, .position = position});
      EXPECT_TRUE(close || out.token == want) << u << " gave " << out.token;
    }
  }
}

TEST(Logprobs, AreTakenBeforeTheTemperature) {
  const std::vector<float> logits = {0.5f, 2, -1, 2, 1};
  const std::vector<double> probability = Softmax(logits);
  for (float temperature : {0.f, 0.3f, 5.f}) {
    const RowOut out = SampleOne({.logits = logits, .params = {.temperature = temperature, .top_k = 2, .logprobs = 3}});
    EXPECT_NEAR(out.logprob, std::log(probability[out.token]), 1e-6);
    EXPECT_EQ((std::vector<int32_t>{out.top_token.begin(), out.top_token.begin() + 4}), (std::vector<int32_t>{1, 3, 4, -1}));
    for (int i = 0; i < 3; ++i) EXPECT_NEAR(out.top_logprob[i], std::log(probability[out.top_token[i]]), 1e-6);
  }
}

TEST(Logprobs, NumberOfAlternatives) {
  const RowOut none = SampleOne({.logits = {0, 1}, .params = {.logprobs = 0}});
  EXPECT_LT(none.logprob, 0);
  EXPECT_EQ(none.top_token[0], -1);
  const RowOut more_than_there_are = SampleOne({.logits = {0, 1, 2}, .params = {.logprobs = 20}, .bitmask = {5}});
  EXPECT_EQ(more_than_there_are.top_token[0], 2);
  EXPECT_EQ(more_than_there_are.top_token[1], 0);
  EXPECT_EQ(more_than_there_are.top_token[2], -1);
}

// A target's log-probability is the model's own, whatever the slot's sampling, and leaves no trace.
TEST(Targets, AreReportedInsteadOfADraw) {
  const std::vector<double> probability = Softmax({0.5f, 2, -1, 2});
  const std::vector<float> row = {0.5f, 2, -1, 2, 9};
  std::vector<float> logits = row, logprob(3), top_logprob(3 * kMaxLogprobs);
  logits.insert(logits.end(), row.begin(), row.end());
  logits.insert(logits.end(), {1, kNan, 0, 0, 0});
  std::vector<int32_t> slot = {1, 0, 1}, target = {2, 3, 0}, token(3), last = {7, 7}, top_token(3 * kMaxLogprobs);
  std::vector<SlotSampling> params = {{.temperature = 0, .logprobs = 0}, {.repetition_penalty = 3, .logprobs = 2}};
  std::vector<uint32_t> counts(2 * 5, 1);
  MakeCpuOps({.threads = 2})
      ->Sample({.logits = Tensor(logits.data(), DType::kF32, {3, 5}),
                .slot = Ints(slot),
                .target = Ints(target),
                .params = Tensor(params.data(), DType::kU8, {2, sizeof(SlotSampling)}),
                .counts = Tensor(counts.data(), DType::kU32, {2, 5}),
                .last_token = Ints(last),
                .tokenizer_size = 4,
                .token = Ints(token),
                .logprob = Floats(logprob),
                .top_token = Tensor(top_token.data(), DType::kI32, {3, kMaxLogprobs}),
                .top_logprob = Tensor(top_logprob.data(), DType::kF32, {3, kMaxLogprobs})});
  EXPECT_EQ(token, (std::vector<int32_t>{2, 3, -1}));
  EXPECT_NEAR(logprob[0], std::log(probability[2]), 1e-6);
  EXPECT_NEAR(logprob[1], std::log(probability[3]), 1e-6);
  EXPECT_EQ((std::vector<int32_t>{top_token.begin(), top_token.begin() + 3}), (std::vector<int32_t>{1, 3, -1}));
  EXPECT_EQ(top_token[kMaxLogprobs], -1);
  EXPECT_EQ(counts, std::vector<uint32_t>(10, 1));
  EXPECT_EQ(last, (std::vector<int32_t>{7, 7}));
}

const std::vector<float> kLogits = {1.2f, -0.4f, 2.1f, 0.3f, 1.2f, -3, 1.9f, 0};

TEST(Distribution, FollowsTheTemperature) {
  for (float temperature : {0.5f, 1.f, 3.f}) {
    SCOPED_TRACE(temperature);
    ExpectFits(Histogram({.logits = kLogits, .params = {.temperature = temperature, .seed = 11}}, 4000),
               Softmax(kLogits, temperature));
  }
}

TEST(Distribution, OverALargeVocabulary) {
  Random random(3);
  const std::vector<float> logits = random.Normals(300);
  ExpectFits(Histogram({.logits = logits, .params = {.seed = 12}}, 20000), Softmax(logits));
}

TEST(Distribution, TopKKeepsTheBestAndTheLowestIdOfATie) {
  const std::vector<int> histogram = Histogram({.logits = kLogits, .params = {.top_k = 3, .seed = 13}}, 4000);
  ExpectFits(histogram, Renormalised(Softmax(kLogits), {2, 6, 0}));
}

TEST(Distribution, TopPKeepsTheSmallestSetThatReachesIt) {
  // The best two have 0.60 of the mass, the best three 0.74.
  const std::vector<double> probability = Softmax(kLogits);
  ExpectFits(Histogram({.logits = kLogits, .params = {.top_p = 0.7f, .seed = 14}}, 4000), Renormalised(probability, {2, 6, 0}));
  ExpectFits(Histogram({.logits = kLogits, .params = {.top_p = 1e-6f, .seed = 14}}, 100), Renormalised(probability, {2}));
}

TEST(Distribution, MinPIsRelativeToTheBest) {
  ExpectFits(Histogram({.logits = kLogits, .params = {.min_p = 0.35f, .seed = 15}}, 4000),
             Renormalised(Softmax(kLogits), {2, 6, 0, 4}));
}

// top-p looks at the mass that top-k left, min-p at probabilities after the temperature.
TEST(Distribution, OrderOfTheFilters) {
  const std::vector<double> hot = Softmax(kLogits, 2);
  // Of the best four, the first three have 0.78 of the mass; of all tokens they have less than 0.62.
  ExpectFits(Histogram({.logits = kLogits, .params = {.temperature = 2, .top_p = 0.75f, .top_k = 4, .seed = 16}}, 4000),
             Renormalised(hot, {2, 6, 0}));
  ExpectFits(Histogram({.logits = kLogits, .params = {.temperature = 2, .min_p = 0.4f, .seed = 17}}, 4000),
             Renormalised(hot, {2, 6, 0, 4, 3}));
}

// A draw depends on (seed, choice, position) and the logits alone: not on slot, batch or threads.
TEST(Determinism, KeyedBySeedChoiceAndPosition) {
  Random random(4);
  const std::vector<float> logits = random.Normals(500, 0.1f);
  std::vector<RowIn> rows;
  for (int i = 0; i < 24; ++i) {
    rows.push_back({.logits = logits, .params = {.seed = 5u + i / 12, .choice = i / 4 % 3}, .position = i % 4});
  }
  const std::vector<RowOut> together = SampleRows(rows), shifted = SampleRows(rows, 7, -1, 3);
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(SampleOne(rows[i]).token, together[i].token) << i;
    EXPECT_EQ(shifted[i].token, together[i].token) << i;
    tokens.push_back(together[i].token);
  }
  std::sort(tokens.begin(), tokens.end());
  EXPECT_GT(std::unique(tokens.begin(), tokens.end()) - tokens.begin(), 18) << "keys that differ should draw different tokens";
}

}  // namespace
}  // namespace berth::kernels
