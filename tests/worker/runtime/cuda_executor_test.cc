#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "tests/worker/runtime/engine_runner.h"
#include "tests/worker/runtime/tiny_model.h"
#include "worker/engine/scheduler.h"
#include "worker/loader/device_weights.h"
#include "worker/runtime/gpu.h"

// The engine on a GPU: against the CPU, with and without recordings, one and two plans in flight.

namespace berth::runtime {
namespace {

using engine::FinishReason;
using engine::SequenceId;
using engine::SequenceSpec;

constexpr TinyModelOptions kShape = {
    .layers = 3, .hidden = 256, .q_heads = 4, .kv_heads = 2, .head_dim = 64, .intermediate = 512};

SequenceSpec Prompt(SequenceId id, int length, int max_tokens) {
  std::mt19937 random(static_cast<unsigned>(id));
  SequenceSpec spec{.id = id, .prompt_length = length, .max_tokens = max_tokens, .sampling = {.temperature = 0}};
  for (int i = 0; i < length; ++i) spec.tokens.push_back(static_cast<int32_t>(random() % kShape.vocab));
  return spec;
}

// Prompts of many lengths with every kind of sampling.
std::vector<SequenceSpec> MixedRequests(int count) {
  std::vector<SequenceSpec> specs;
  for (int i = 0; i < count; ++i) {
    SequenceSpec spec = Prompt(100 + i, 1 + i * 11 % 170, 12 + i);
    if (i % 2 == 1) spec.sampling = {.temperature = 0.8f, .top_p = 0.95f, .seed = 7u + i};
    if (i % 4 == 3) spec.sampling.top_k = 20;
    if (i % 3 == 2) spec.sampling.repetition_penalty = 1.3f;
    if (i % 5 == 4) spec.sampling.frequency_penalty = 0.5f;
    if (i % 7 == 6) spec.sampling.logprobs = 3;
    if (i % 6 == 5) spec.bad_words = {{3, 4}, {spec.tokens.back(), 17}};
    if (i % 8 == 7) spec.logit_bias = {{5, 2.f}, {9, -std::numeric_limits<float>::infinity()}};
    specs.push_back(spec);
  }
  return specs;
}

std::map<SequenceId, std::vector<int32_t>> Tokens(const std::map<SequenceId, Output>& outputs) {
  std::map<SequenceId, std::vector<int32_t>> tokens;
  for (const auto& [id, output] : outputs) tokens[id] = output.tokens;
  return tokens;
}

class CudaExecutorTest : public testing::Test {
 protected:
  CudaExecutorTest() : model_(kShape) {
    // Weights that bf16 holds, so that both sides compute with the same.
    for (std::vector<float>& values : model_.memory) {
      for (float& value : values) value = std::round(value * 128) / 128;
    }
    model_.weights.head_bias = {};  // no family has one, so no loader brings it to the device
  }

  void SetUp() override {
    if (const absl::Status usable = CheckGpu(0); !usable.ok()) GTEST_SKIP() << usable;
    auto uploader = MakeGpuUploader(options_);
    ASSERT_TRUE(uploader.ok()) << uploader.status();
    auto weights = loader::UploadWeights(model_.spec, model_.weights, **uploader);
    ASSERT_TRUE(weights.ok()) << weights.status();
    weights_ = *std::move(weights);
  }

  absl::StatusOr<std::unique_ptr<engine::Executor>> MakeExecutor(const GpuOptions& options) {
    return MakeGpuExecutor({model_.spec, weights_.weights, model_.spec.vocab}, options);
  }
  std::map<SequenceId, std::vector<int32_t>> Run(const std::vector<SequenceSpec>& specs, const GpuOptions& options, int depth,
                                                 bool prefix_cache = true) {
    return Tokens(EngineRunner(MakeExecutor(options), {.depth = depth, .prefix_cache = prefix_cache}).Run(specs));
  }

  TinyModel model_;
  loader::MaterializedWeights weights_;
  GpuOptions options_ = {.slots = 32, .max_step_tokens = 256, .kv_bytes = size_t{64} << 20};
};

// Roundings of bf16 may turn a close call, after which the texts differ; most tokens are no close calls.
TEST_F(CudaExecutorTest, TokensAreTheCpus) {
  std::vector<SequenceSpec> specs;
  for (int i = 0; i < 24; ++i) specs.push_back(Prompt(1 + i, 5 + 7 * i, 8));
  const auto cuda = Run(specs, options_, 2);
  RunnerConfig config;
  config.executor.kv_blocks = 256;
  const auto cpu = Tokens(EngineRunner({model_.spec, model_.weights, model_.spec.vocab}, config).Run(specs));
  int same = 0;
  for (const auto& [id, tokens] : cpu) same += tokens == cuda.at(id);
  EXPECT_GE(same, 18) << "of 24 texts";
  for (const auto& [id, tokens] : cpu) same += tokens[0] == cuda.at(id)[0];
  EXPECT_GE(same, 18 + 22) << "of 24 texts and 24 first tokens";
}

TEST_F(CudaExecutorTest, DepthAndRecordingsChangeNoToken) {
  const auto specs = MixedRequests(32);
  GpuOptions eager = options_;
  eager.recordings = false;
  const auto want = Run(specs, eager, 1);
  EXPECT_EQ(Run(specs, eager, 1), want) << "run to run";
  EXPECT_EQ(Run(specs, eager, 2), want) << "depth 2";
  EXPECT_EQ(Run(specs, options_, 1), want) << "recordings";
  EXPECT_EQ(Run(specs, options_, 2), want) << "recordings at depth 2";
}

TEST_F(CudaExecutorTest, GreedyTextsSurviveChunksAndPreemption) {
  std::vector<SequenceSpec> specs;
  for (int i = 0; i < 8; ++i) specs.push_back(Prompt(100 + i, 50 + i, 90));
  const auto want = Run(specs, options_, 1);
  GpuOptions tight = options_;
  tight.session_len = 192;
  tight.kv_bytes = 12 * KvBlockBytes(model_.spec, tight.dtype);
  EngineRunner runner(MakeExecutor(tight), {.step_tokens = 33, .depth = 2});
  const auto got = Tokens(runner.Run(specs));
  EXPECT_GT(runner.stats().preemptions, 0u);
  int same = 0;
  for (const auto& [id, tokens] : want) {
    EXPECT_EQ(got.at(id).size(), tokens.size());
    same += got.at(id) == tokens;
  }
  EXPECT_GE(same, 5) << "of 8 texts: a chunk of another size may round otherwise";
}

TEST_F(CudaExecutorTest, ANaNInOneRowEndsThatSequenceAlone) {
  SequenceSpec good = Prompt(1, 30, 10), bad = Prompt(2, 30, 10);
  for (SequenceSpec* spec : {&good, &bad}) {
    for (int32_t& token : spec->tokens) token %= kShape.vocab - 1;
  }
  bad.tokens[17] = kShape.vocab - 1;
  TinyModel::Row(model_.weights.embed, kShape.vocab - 1)[0] = std::numeric_limits<float>::quiet_NaN();
  auto uploader = MakeGpuUploader(options_);
  weights_ = *loader::UploadWeights(model_.spec, model_.weights, **uploader);
  const auto alone = Run({good}, options_, 2);
  const auto outputs = EngineRunner(MakeExecutor(options_), {.depth = 2}).Run({bad, good});
  EXPECT_EQ(outputs.at(2).finish, FinishReason::kError);
  EXPECT_TRUE(outputs.at(2).tokens.empty());
  EXPECT_EQ(outputs.at(1).tokens.size(), alone.at(1).size());
}

TEST_F(CudaExecutorTest, WhatDoesNotFitIsSaid) {
  GpuOptions small = options_;
  small.kv_bytes = 3 * KvBlockBytes(model_.spec, small.dtype);
  const absl::Status status = MakeExecutor(small).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("the KV cache of one sequence of 512 tokens needs"));
  GpuOptions absent = options_;
  absent.device = 99;
  EXPECT_EQ(MakeExecutor(absent).status().code(), absl::StatusCode::kFailedPrecondition);
}

// A fault spoils the process's context, so it happens in a process of its own.
TEST_F(CudaExecutorTest, ADeviceFaultEndsEveryPlanAndNothingHangs) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto fault = [this] {
    const auto executor = *MakeExecutor(options_);
    engine::StepPlanBuilder plan(1), next(2);
    plan.Admit({.slot = 0}, {.prompt_length = 1}, {1});
    plan.Block({.slot = 0});
    plan.Row({.slot = 0, .sample = 1}, {1 << 30});  // far outside the embedding
    next.DecodeRow({.slot = 0, .position = 1, .sample = 1});
    executor->Submit(plan.Build());
    executor->Submit(next.Build());
    const bool both = absl::IsUnavailable(executor->Await().status()) && absl::IsUnavailable(executor->Await().status());
    std::exit(both ? 3 : 1);
  };
  EXPECT_EXIT(fault(), testing::ExitedWithCode(3), "");
}

// Requests of every kind come, grow, are cancelled, finish and are preempted, two plans ahead, on a pool that is too small.
TEST_F(CudaExecutorTest, RandomRequestsKeepTheSchedulerSound) {
  GpuOptions options = options_;
  options.session_len = 256;
  options.kv_bytes = 40 * KvBlockBytes(model_.spec, options.dtype);
  auto executor = MakeExecutor(options);
  ASSERT_TRUE(executor.ok()) << executor.status();
  const engine::ExecutorLimits limits = (*executor)->limits();
  engine::Scheduler scheduler({.slots = limits.slots, .kv_blocks = limits.kv_blocks, .step_tokens = 96, .prefix_cache = true});
  std::mt19937 random(5);
  std::set<SequenceId> open;
  SequenceId next = 1;
  int in_flight = 0, finished = 0;
  for (int step = 0; step < 4000; ++step) {
    while (open.size() < 48 && next < 3000) {
      SequenceSpec spec = MixedRequests(32)[random() % 32];
      spec.id = next++;
      spec.max_tokens = static_cast<int>(1 + random() % 60);
      open.insert(spec.id);
      scheduler.Add(std::move(spec));
    }
    if (random() % 16 == 0 && !open.empty()) scheduler.Cancel(*open.begin());
    while (in_flight < limits.max_depth) {
      engine::StepPlan plan = scheduler.Plan(absl::ZeroDuration());
      if (plan.empty()) break;
      (*executor)->Submit(std::move(plan));
      ++in_flight;
    }
    if (in_flight == 0) break;
    auto result = (*executor)->Await();
    ASSERT_TRUE(result.ok()) << result.status();
    --in_flight;
    for (const engine::SequenceUpdate& update : scheduler.Commit(*result)) {
      if (update.finish == FinishReason::kNone) continue;
      EXPECT_NE(update.finish, FinishReason::kError) << update.error;
      finished += static_cast<int>(open.erase(update.id));
    }
    ASSERT_TRUE(scheduler.CheckInvariants().ok()) << scheduler.CheckInvariants();
  }
  EXPECT_GT(finished, 500);
}

}  // namespace
}  // namespace berth::runtime
