#include "worker/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "tests/worker/runtime/engine_runner.h"
#include "tests/worker/runtime/tiny_model.h"

// The engine with the CPU executor and a tiny random model: what callers of the engine see, from prompt to tokens.

namespace berth::runtime {
namespace {

using engine::FinishReason;
using engine::SequenceId;
using engine::SequenceSpec;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::Not;

RunnerModel Of(const TinyModel& model) { return {model.spec, model.weights, model.spec.vocab}; }

SequenceSpec Prompt(SequenceId id, int length, int max_tokens = 20) {
  std::mt19937 random(static_cast<unsigned>(id));
  SequenceSpec spec{.id = id, .prompt_length = length, .max_tokens = max_tokens, .sampling = {.temperature = 0}};
  for (int i = 0; i < length; ++i) spec.tokens.push_back(static_cast<int32_t>(random() % 160));
  return spec;
}

// Sixteen requests of many lengths, greedy and sampled, some with penalties.
std::vector<SequenceSpec> MixedRequests() {
  std::vector<SequenceSpec> specs;
  for (int i = 0; i < 16; ++i) {
    SequenceSpec spec = Prompt(100 + i, 1 + i * 9, 12 + i);
    if (i % 2 == 1) spec.sampling = {.temperature = 1, .top_p = 0.95f, .seed = 7u + i};
    if (i % 3 == 2) spec.sampling.repetition_penalty = 1.3f;
    if (i % 5 == 4) spec.sampling.frequency_penalty = 0.5f;
    specs.push_back(spec);
  }
  return specs;
}

std::map<SequenceId, std::vector<int32_t>> Tokens(const std::map<SequenceId, Output>& outputs) {
  std::map<SequenceId, std::vector<int32_t>> tokens;
  for (const auto& [id, output] : outputs) tokens[id] = output.tokens;
  return tokens;
}

struct Mode {
  int depth;
  bool queued;
};

class SameTokensTest : public testing::TestWithParam<Mode> {
 protected:
  RunnerConfig MakeConfig() const { return {.engine = {.depth = GetParam().depth}, .queued = GetParam().queued}; }

  // Every request alone, its prompt in one step.
  std::map<SequenceId, std::vector<int32_t>> Alone(const std::vector<SequenceSpec>& specs) {
    std::map<SequenceId, std::vector<int32_t>> tokens;
    RunnerConfig config;
    config.executor.max_step_tokens = 256;
    config.engine.prefix_cache = false;
    EngineRunner service(Of(model_), config);
    for (const SequenceSpec& spec : specs) tokens.merge(Tokens(service.Run({spec})));
    return tokens;
  }

  TinyModel model_;
};

INSTANTIATE_TEST_SUITE_P(Modes, SameTokensTest, testing::Values(Mode{1, false}, Mode{2, false}, Mode{1, true}, Mode{2, true}),
                         [](const auto& info) {
                           return std::string(info.param.queued ? "Queued" : "Threaded") + std::to_string(info.param.depth);
                         });

TEST_P(SameTokensTest, InABatchOfSixteen) {
  const auto specs = MixedRequests();
  EXPECT_EQ(Tokens(EngineRunner(Of(model_), MakeConfig()).Run(specs)), Alone(specs));
}

TEST_P(SameTokensTest, WithTwoThreads) {
  if (GetParam().queued) GTEST_SKIP() << "has one thread";
  const auto specs = MixedRequests();
  RunnerConfig config = MakeConfig();
  config.executor.threads = 2;
  EXPECT_EQ(Tokens(EngineRunner(Of(model_), config).Run(specs)), Alone(specs));
}

TEST_P(SameTokensTest, Chunked) {
  const auto specs = MixedRequests();
  RunnerConfig config = MakeConfig();
  config.engine.step_tokens = 17;
  EngineRunner service(Of(model_), config);
  EXPECT_EQ(Tokens(service.Run(specs)), Alone(specs));
}

TEST_P(SameTokensTest, Preempted) {
  std::vector<SequenceSpec> specs;
  for (int i = 0; i < 8; ++i) {
    specs.push_back(Prompt(100 + i, 50 + i, 90));
    if (i % 2 == 1) specs[i].sampling = {.temperature = 1, .presence_penalty = 0.5f, .seed = 7u + i};
  }
  RunnerConfig config = MakeConfig();
  config.executor.kv_blocks = 10;
  EngineRunner service(Of(model_), config);
  const auto outputs = service.Run(specs);
  EXPECT_GT(service.stats().preemptions, 0u);
  EXPECT_EQ(Tokens(outputs), Alone(specs));
}

TEST_P(SameTokensTest, AfterAPrefixCacheHit) {
  SequenceSpec first = Prompt(1, 150);
  SequenceSpec second = first;
  second.id = 2;
  second.tokens.push_back(3);
  second.prompt_length = 151;
  EngineRunner service(Of(model_), MakeConfig());
  EXPECT_EQ(service.Run({first})[1].cached_tokens, 0);
  const Output hit = service.Run({second})[2];
  EXPECT_EQ(hit.cached_tokens, 128);
  EXPECT_EQ(hit.tokens, Alone({second})[2]);
}

// The sum of hidden states is that of the prompt in one step, bit by bit, whatever runs beside it.
TEST_P(SameTokensTest, PooledInChunksAmongOthersAndPreempted) {
  std::vector<SequenceSpec> pooled;
  for (int i = 0; i < 6; ++i) {
    pooled.push_back(Prompt(200 + i, 1 + 29 * i));
    pooled.back().pool = true;
  }
  RunnerConfig whole;
  whole.executor.max_step_tokens = 256;
  EngineRunner alone(Of(model_), whole);
  RunnerConfig config = MakeConfig();
  config.engine.step_tokens = 17;
  config.executor.kv_blocks = 12;
  EngineRunner service(Of(model_), config);
  auto specs = MixedRequests();
  specs.insert(specs.begin() + 5, pooled.begin(), pooled.end());
  const auto outputs = service.Run(specs);
  EXPECT_EQ(Tokens(outputs).at(115), Alone({specs.back()}).at(115));
  for (const SequenceSpec& spec : pooled) {
    const Output& output = outputs.at(spec.id);
    EXPECT_EQ(output.finish, FinishReason::kFinished);
    EXPECT_THAT(output.tokens, testing::IsEmpty());
    EXPECT_EQ(output.hidden_sum.size(), static_cast<size_t>(model_.spec.hidden));
    EXPECT_EQ(output.hidden_sum, alone.Run({spec}).at(spec.id).hidden_sum) << spec.id;
  }
}

// What a text has as prompt and as output is the same to the bit, whatever runs beside it, in pieces of fewer rows than a
// chunk. Penalties and biases play no part.
TEST_P(SameTokensTest, ScoredPromptsHaveTheLogprobsOfTheSameTextDrawn) {
  RunnerConfig whole;
  whole.executor.max_step_tokens = 256;
  EngineRunner alone(Of(model_), whole);
  std::vector<SequenceSpec> scored;
  for (int i = 0; i < 6; ++i) {
    SequenceSpec spec = Prompt(200 + i, 1 + i, 130 - 25 * i);
    spec.sampling.logprobs = 3;
    const Output drawn = alone.Run({spec})[spec.id];
    spec.tokens.insert(spec.tokens.end(), drawn.tokens.begin(), drawn.tokens.end());
    spec.prompt_length = static_cast<int>(spec.tokens.size());
    spec.max_tokens = 3 * (i % 2);
    spec.score_prompt = true;
    spec.sampling.repetition_penalty = 1.5f;
    spec.logit_bias = {{5, 50.f}};
    scored.push_back(spec);
  }
  RunnerConfig config = MakeConfig();
  config.engine.step_tokens = 40;
  config.executor.slots = 10;
  EngineRunner service(Of(model_), config);
  auto specs = MixedRequests();
  specs.insert(specs.begin() + 5, scored.begin(), scored.end());
  const auto outputs = service.Run(specs);
  EXPECT_EQ(Tokens(outputs).at(115), Alone({specs.back()}).at(115));
  for (int i = 0; i < 6; ++i) {
    SCOPED_TRACE(i);
    SequenceSpec spec = Prompt(200 + i, 1 + i, 130 - 25 * i);
    spec.sampling.logprobs = 3;
    const std::vector<engine::TokenLogprobs> want = alone.Run({spec})[spec.id].logprobs;
    const Output& output = outputs.at(spec.id);
    EXPECT_EQ(output.tokens.size(), static_cast<size_t>(3 * (i % 2)));
    EXPECT_EQ(output.finish, FinishReason::kLength);
    ASSERT_EQ(output.prompt_logprobs.size(), i + want.size());
    for (size_t k = 0; k < want.size(); ++k) {
      EXPECT_EQ(output.prompt_logprobs[i + k].logprob, want[k].logprob) << k;
      EXPECT_EQ(output.prompt_logprobs[i + k].top, want[k].top) << k;
    }
  }
}

TEST_P(SameTokensTest, Resumed) {
  SequenceSpec whole = Prompt(1, 40, 30);
  whole.sampling = {.temperature = 1, .repetition_penalty = 1.2f, .presence_penalty = 0.4f, .seed = 5};
  const std::vector<int32_t> want = Alone({whole})[1];
  SequenceSpec resumed = whole;
  resumed.id = 2;
  resumed.tokens.insert(resumed.tokens.end(), want.begin(), want.begin() + 11);
  const Output output = EngineRunner(Of(model_), MakeConfig()).Run({resumed})[2];
  EXPECT_EQ(output.tokens, std::vector<int32_t>(want.begin() + 11, want.end()));
}

// Whether the executor has a thread, or plans are queued ahead.
class EngineTest : public testing::TestWithParam<bool> {
 protected:
  RunnerConfig MakeConfig() const { return {.engine = {.depth = 2}, .queued = GetParam()}; }
  Output RunOne(const SequenceSpec& spec) { return EngineRunner(Of(model_), MakeConfig()).Run({spec})[spec.id]; }

  TinyModel model_;
};

INSTANTIATE_TEST_SUITE_P(Executors, EngineTest, testing::Bool(),
                         [](const auto& info) { return std::string(info.param ? "Queued" : "Threaded"); });

TEST_P(EngineTest, StopTokenEndsAndCounts) {
  SequenceSpec spec = Prompt(1, 10);
  const std::vector<int32_t> free = RunOne(spec).tokens;
  ASSERT_EQ(free.size(), 20u);
  spec.stop_tokens = {free[4]};
  const Output stopped = RunOne(spec);
  EXPECT_EQ(stopped.finish, FinishReason::kStopToken);
  EXPECT_EQ(stopped.tokens.back(), free[4]);
  EXPECT_LE(stopped.tokens.size(), 5u);
}

TEST_P(EngineTest, StopTokensWaitForMinTokens) {
  SequenceSpec spec = Prompt(1, 10);
  for (int32_t token = 0; token < 100; ++token) spec.stop_tokens.push_back(token);
  const size_t early = RunOne(spec).tokens.size();
  ASSERT_LT(early, 7u);
  spec.min_tokens = 8;
  const Output output = RunOne(spec);
  ASSERT_GE(output.tokens.size(), 9u);
  for (int i = 0; i < 8; ++i) EXPECT_GE(output.tokens[i], 100) << "output token " << i;
}

TEST_P(EngineTest, LogitBiasForcesAndBans) {
  SequenceSpec spec = Prompt(1, 10);
  const int32_t first = RunOne(spec).tokens[0];
  spec.logit_bias = {{first, -std::numeric_limits<float>::infinity()}};
  EXPECT_THAT(RunOne(spec).tokens, Not(Contains(first)));
  spec.logit_bias = {{42, 1000.f}};
  EXPECT_THAT(RunOne(spec).tokens, Each(42));
}

TEST_P(EngineTest, BadWordsAreNeverCompleted) {
  SequenceSpec spec = Prompt(1, 10);
  const std::vector<int32_t> free = RunOne(spec).tokens;
  spec.bad_words = {{spec.tokens.back(), free[0]}, {free[1], free[2]}};
  const std::vector<int32_t> banned = RunOne(spec).tokens;
  EXPECT_NE(banned[0], free[0]);
  for (size_t i = 1; i < banned.size(); ++i) EXPECT_FALSE(banned[i - 1] == free[1] && banned[i] == free[2]) << i;
}

// Every ban depends on the token drawn just before.
TEST_P(EngineTest, BadWordsFollowTheLastToken) {
  SequenceSpec spec = Prompt(1, 10, 8);
  spec.logit_bias = {{42, 1000.f}, {43, 900.f}};
  spec.bad_words = {{42, 42}};
  EXPECT_THAT(RunOne(spec).tokens, ElementsAre(42, 43, 42, 43, 42, 43, 42, 43));
}

TEST_P(EngineTest, PenaltiesLookAtPromptAndOutput) {
  SequenceSpec spec = Prompt(1, 10);
  spec.logit_bias = {{spec.tokens[0], 300.f}, {77, 290.f}};
  EXPECT_THAT(RunOne(spec).tokens, Each(spec.tokens[0]));
  // In the prompt: penalised from the first token on. Presence and frequency look at output only.
  spec.sampling.repetition_penalty = 3;
  EXPECT_EQ(RunOne(spec).tokens[0], 77);
  spec.sampling.repetition_penalty = 1;
  spec.sampling.presence_penalty = 60;
  const std::vector<int32_t> tokens = RunOne(spec).tokens;
  EXPECT_EQ(tokens[0], spec.tokens[0]);
  EXPECT_EQ(tokens[1], 77);
}

TEST_P(EngineTest, LogprobsAreOfTheWholeDistribution) {
  SequenceSpec spec = Prompt(1, 10, 5);
  spec.sampling.logprobs = 3;
  const Output output = RunOne(spec);
  ASSERT_EQ(output.logprobs.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    const engine::TokenLogprobs& logprobs = output.logprobs[i];
    ASSERT_EQ(logprobs.top.size(), 3u);
    EXPECT_EQ(logprobs.top[0].first, output.tokens[i]);
    EXPECT_EQ(logprobs.top[0].second, logprobs.logprob);
    EXPECT_GT(logprobs.top[0].second, logprobs.top[1].second);
    EXPECT_LT(std::exp(logprobs.top[0].second) + std::exp(logprobs.top[1].second) + std::exp(logprobs.top[2].second), 1);
  }
}

TEST_P(EngineTest, LogprobsWithoutAlternatives) {
  SequenceSpec plain = Prompt(1, 10, 3), with = Prompt(2, 10, 3);
  with.sampling.logprobs = 0;
  EngineRunner service(Of(model_), MakeConfig());
  const auto outputs = service.Run({plain, with});
  EXPECT_TRUE(outputs.at(1).logprobs.empty());
  ASSERT_EQ(outputs.at(2).logprobs.size(), 3u);
  for (const auto& logprobs : outputs.at(2).logprobs) {
    EXPECT_LT(logprobs.logprob, 0);
    EXPECT_TRUE(logprobs.top.empty());
  }
}

TEST_P(EngineTest, SeedAndChoiceDecideTheDraw) {
  SequenceSpec a = Prompt(1, 10), b = a, c = a, d = a;
  a.sampling = b.sampling = c.sampling = d.sampling = {.temperature = 2, .seed = 11};
  b.id = 2;
  c.id = 3;
  c.sampling.seed = 12;
  d.id = 4;
  d.sampling.choice = 1;
  const auto outputs = EngineRunner(Of(model_), MakeConfig()).Run({a, b, c, d});
  EXPECT_EQ(outputs.at(1).tokens, outputs.at(2).tokens);
  EXPECT_NE(outputs.at(1).tokens, outputs.at(3).tokens);
  EXPECT_NE(outputs.at(1).tokens, outputs.at(4).tokens);
}

// Only the sequence that reads the broken row fails, and the blocks it leaves behind harm nobody.
TEST_P(EngineTest, ANaNInOneRowEndsThatSequenceAlone) {
  const SequenceSpec good = Prompt(1, 30);
  const std::vector<int32_t> want = RunOne(good).tokens;
  TinyModel::Row(model_.weights.embed, 159)[0] = std::numeric_limits<float>::quiet_NaN();
  SequenceSpec bad = Prompt(2, 30), clean = good;
  bad.tokens[17] = 159;
  for (int32_t& token : clean.tokens) token %= 159;
  ASSERT_EQ(clean.tokens, good.tokens) << "the prompt must not hold the broken token";
  ASSERT_THAT(want, Not(Contains(159)));
  RunnerConfig config = MakeConfig();
  config.executor = {.slots = 4, .kv_blocks = 4};
  EngineRunner service(Of(model_), config);
  const auto outputs = service.Run({bad, good});
  EXPECT_EQ(outputs.at(2).finish, FinishReason::kError);
  EXPECT_TRUE(outputs.at(2).tokens.empty());
  EXPECT_EQ(outputs.at(1).tokens, want);
  for (SequenceId id = 10; id < 14; ++id) {
    SequenceSpec next = good;
    next.id = id;
    next.cache_salt = id;
    EXPECT_EQ(service.Run({next})[id].tokens, want);
  }
}

}  // namespace
}  // namespace berth::runtime
