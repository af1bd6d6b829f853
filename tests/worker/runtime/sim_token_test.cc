#include "worker/runtime/sim_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace berth::runtime {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Not;

constexpr SimVocabulary kVocabulary = {.begin = 100, .end = 1100};

engine::SequenceSpec Spec() {
  engine::SequenceSpec spec{.id = 1, .tokens = {1, 2, 3}, .prompt_length = 3, .max_tokens = 20};
  spec.sampling.seed = 5;
  return spec;
}

TEST(SimTokenTest, OutputIsTheSameInEveryProcess) {
  engine::SequenceSpec spec = Spec();
  spec.max_tokens = 4;
  EXPECT_THAT(SimOutput(kVocabulary, spec), ElementsAre(837, 643, 558, 221));
}

TEST(SimTokenTest, EveryInputTokenTheSeedAndTheChoiceChangeTheOutput) {
  const std::vector<int32_t> plain = SimOutput(kVocabulary, Spec());
  std::set<std::vector<int32_t>> outputs = {plain};
  for (int i = 0; i < 3; ++i) {
    engine::SequenceSpec spec = Spec();
    spec.tokens[i] += 1;
    EXPECT_TRUE(outputs.insert(SimOutput(kVocabulary, spec)).second) << "prompt token " << i;
  }
  engine::SequenceSpec spec = Spec();
  spec.sampling.seed = 6;
  EXPECT_TRUE(outputs.insert(SimOutput(kVocabulary, spec)).second);
  spec = Spec();
  spec.sampling.choice = 1;
  EXPECT_TRUE(outputs.insert(SimOutput(kVocabulary, spec)).second);
}

TEST(SimTokenTest, AResumedSequenceGoesOnOnlyFromItsOwnOutput) {
  const std::vector<int32_t> whole = SimOutput(kVocabulary, Spec());
  engine::SequenceSpec resumed = Spec();
  resumed.tokens.insert(resumed.tokens.end(), whole.begin(), whole.begin() + 7);
  EXPECT_EQ(SimOutput(kVocabulary, resumed), whole);
  resumed.tokens.erase(resumed.tokens.begin() + 5);  // one output token was lost
  const std::vector<int32_t> wrong = SimOutput(kVocabulary, resumed);
  EXPECT_FALSE(std::equal(wrong.begin() + 6, wrong.end() - 1, whole.begin() + 7));
}

TEST(SimTokenTest, APromptMayDictateTheAnswerToItsLastMessage) {
  SimVocabulary vocabulary = kVocabulary;
  vocabulary.script_begin = 2;
  vocabulary.script_end = 3;
  vocabulary.message = 1;
  vocabulary.opening_size = 2;
  const std::vector<int32_t> text = {9, 2, 5, 6, 3}, chat = {1, 7, 2, 5, 6, 3, 0, 1, 8, 8},
                             earlier = {2, 5, 3, 1, 8, 8, 1, 8, 8};
  EXPECT_FALSE(FindSimScript(kVocabulary, text).has_value());
  EXPECT_THAT(FindSimScript(vocabulary, text)->tokens, ElementsAre(5, 6));
  EXPECT_EQ(FindSimScript(vocabulary, text)->position, 5);
  EXPECT_EQ(FindSimScript(vocabulary, chat)->position, 10);
  EXPECT_FALSE(FindSimScript(vocabulary, earlier).has_value());
  EXPECT_FALSE(FindSimScript(vocabulary, {1, 2, 5}).has_value());
}

TEST(SimTokenTest, StopTokensComeOnlyByTheirProbabilityAndNotBeforeMinTokens) {
  const SimVocabulary tiny = {.begin = 0, .end = 4};
  engine::SequenceSpec spec = Spec();
  spec.max_tokens = 200;
  spec.stop_tokens = {2};
  EXPECT_THAT(SimOutput(tiny, spec), Not(Contains(2)));
  SimVocabulary stopping = tiny;
  stopping.stop_probability = 1;
  spec.min_tokens = 6;
  const std::vector<int32_t> output = SimOutput(stopping, spec);
  ASSERT_EQ(output.size(), 7);
  EXPECT_EQ(output.back(), 2);
  EXPECT_EQ(SimOutput(stopping, spec), output);
}

TEST(SimTokenTest, BannedTokensAreNeverDrawn) {
  const SimVocabulary tiny = {.begin = 0, .end = 3};
  engine::SequenceSpec spec = Spec();
  spec.logit_bias = {{0, -INFINITY}, {1, 5.0f}};
  spec.stop_tokens = {2};
  EXPECT_THAT(SimOutput(tiny, spec), Each(1));
  spec.logit_bias[1].second = -INFINITY;
  EXPECT_TRUE(SimOutput(tiny, spec).empty()) << "no token is left";
}

TEST(SimTokenTest, LogprobsFallAndBeginWithTheTokenDrawn) {
  SimDrawRules rules;
  engine::TokenLogprobs none, some, again;
  SimDraw(kVocabulary, rules, 99, 0, &none);
  EXPECT_TRUE(none.top.empty());
  rules.sampling.logprobs = 5;
  const int32_t token = SimDraw(kVocabulary, rules, 99, 0, &some);
  SimDraw(kVocabulary, rules, 99, 0, &again);
  EXPECT_EQ(some.top, again.top);
  EXPECT_LT(some.logprob, 0);
  ASSERT_EQ(some.top.size(), 5);
  EXPECT_EQ(some.top[0], std::make_pair(token, some.logprob));
  std::set<int32_t> distinct;
  for (size_t i = 0; i < some.top.size(); ++i) {
    distinct.insert(some.top[i].first);
    if (i > 0) {
      EXPECT_LT(some.top[i].second, some.top[i - 1].second);
    }
  }
  EXPECT_EQ(distinct.size(), 5);
}

}  // namespace
}  // namespace berth::runtime
