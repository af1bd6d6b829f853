#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "tests/worker/runtime/cuda_model.h"

// The engine on a GPU: against the CPU, with and without recordings, one and two plans in flight.

namespace berth::runtime {
namespace {

using engine::FinishReason;
using engine::SequenceSpec;

class CudaExecutorTest : public CudaModelTest {};

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

// Equal batches give equal bits, whenever they run. A recording pads a batch, and a product of another size may round
// otherwise.
TEST_F(CudaExecutorTest, RunsAreEqualAndRecordingsClose) {
  const auto specs = MixedRequests(32);
  GpuOptions eager = options_;
  eager.recordings = false;
  const auto want = Run(specs, eager, 1), recorded = Run(specs, options_, 1);
  EXPECT_EQ(Run(specs, eager, 1), want) << "run to run";
  EXPECT_EQ(Run(specs, eager, 2), want) << "depth 2";
  EXPECT_EQ(Run(specs, options_, 1), recorded) << "recordings, run to run";
  EXPECT_EQ(Run(specs, options_, 2), recorded) << "recordings at depth 2";
  int same = 0;
  for (const auto& [id, tokens] : want) same += recorded.at(id) == tokens;
  EXPECT_GE(same, 16) << "of 32 texts";
}

// In f16, whose roundings are the smaller: rows beside a chunk go through other kernels than rows alone.
TEST_F(CudaExecutorTest, GreedyTextsSurviveChunksAndPreemption) {
  options_.dtype = kernels::DType::kF16;
  SetUp();
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
  EXPECT_GE(same, 3) << "of 8 texts: a chunk of another size may round otherwise";
}

// A step of so many greedy rows leaves no logits; one row that needs them changes that for all.
TEST_F(CudaExecutorTest, ManyGreedyRowsKeepTheirTextsBesideOneThatIsNot) {
  options_.dtype = kernels::DType::kF16;
  options_.slots = 96;
  SetUp();
  std::vector<SequenceSpec> specs;
  for (int i = 0; i < 90; ++i) specs.push_back(Prompt(1 + i, 5 + i % 40, 12));
  const auto want = Run(specs, options_, 2);
  EXPECT_EQ(Run(specs, options_, 2), want) << "run to run";
  SequenceSpec forced = Prompt(91, 9, 12);
  forced.logit_bias = {{3, 100.f}};
  specs.push_back(forced);
  const auto got = Run(specs, options_, 2);
  EXPECT_EQ(got.at(91), std::vector<int32_t>(12, 3));
  int same = 0;
  for (const auto& [id, tokens] : want) same += got.at(id) == tokens;
  EXPECT_GE(same, 60) << "of 90 texts: another kernel may round otherwise";
}

TEST_F(CudaExecutorTest, SumsOfHiddenStatesAreTheCpus) {
  std::vector<SequenceSpec> specs;
  for (int i = 0; i < 6; ++i) {
    specs.push_back(Prompt(1 + i, 1 + 60 * i, 1));
    specs.back().pool = true;
  }
  const auto cuda = EngineRunner(MakeExecutor(options_), {.step_tokens = 50, .depth = 2}).Run(specs);
  RunnerConfig config;
  config.executor.kv_blocks = 64;
  for (const auto& [id, cpu] : EngineRunner({model_.spec, model_.weights, model_.spec.vocab}, config).Run(specs)) {
    const Output& got = cuda.at(id);
    EXPECT_EQ(got.finish, FinishReason::kFinished);
    ASSERT_EQ(got.hidden_sum.size(), cpu.hidden_sum.size());
    double squares = 0, differences = 0;
    for (size_t i = 0; i < cpu.hidden_sum.size(); ++i) {
      squares += cpu.hidden_sum[i] * cpu.hidden_sum[i];
      differences += std::pow(got.hidden_sum[i] - cpu.hidden_sum[i], 2);
    }
    EXPECT_LT(std::sqrt(differences / squares), 0.05) << "sequence " << id;
  }
}

// By the size of heads, and with generic kernels: each has another kernel of attention.
class BatchInvariantTest : public CudaModelTest, public ::testing::WithParamInterface<std::pair<int, bool>> {
 protected:
  BatchInvariantTest() : CudaModelTest(ShapeOf(GetParam().first)) {
    options_.batch_invariant = true;
    options_.generic_kernels = GetParam().second;
  }
  static TinyModelOptions ShapeOf(int head_dim) {
    TinyModelOptions shape = kShape;
    shape.head_dim = head_dim;
    return shape;
  }

  // Of each sequence, with its log-probabilities.
  using Texts = std::map<engine::SequenceId, std::pair<std::vector<int32_t>, std::vector<float>>>;
  static Texts TextsOf(const std::map<engine::SequenceId, Output>& outputs) {
    Texts texts;
    for (const auto& [id, output] : outputs) {
      auto& [tokens, logprobs] = texts[id % kAgain];
      tokens = output.tokens;
      for (const engine::TokenLogprobs& at : output.logprobs) {
        logprobs.push_back(at.logprob);
        for (const auto& [token, logprob] : at.top) logprobs.push_back(logprob);
      }
    }
    return texts;
  }

  static void ExpectEqual(const Texts& got, const Texts& want, const char* how) {
    for (const auto& [id, text] : want) EXPECT_EQ(got.at(id), text) << how << ", sequence " << id;
  }

  static constexpr engine::SequenceId kAgain = 1000;  // what a repeated sequence's id is raised by
};

TEST_P(BatchInvariantTest, TextsAreEqualAloneBatchedInChunksFromTheCacheAndResumed) {
  std::vector<SequenceSpec> specs = MixedRequests(32);
  for (SequenceSpec& spec : specs) {
    spec.sampling.logprobs = 3;
    spec.max_tokens *= 3;
  }
  std::map<engine::SequenceId, Output> each;
  EngineRunner alone(MakeExecutor(options_), {.depth = 2, .prefix_cache = false});
  for (const SequenceSpec& spec : specs) each.merge(alone.Run({spec}));
  const Texts want = TextsOf(each);

  EngineRunner batched(MakeExecutor(options_), {.depth = 2});
  ExpectEqual(TextsOf(batched.Run(specs)), want, "in a batch");
  std::vector<SequenceSpec> again = specs;
  for (SequenceSpec& spec : again) spec.id += kAgain;
  const auto cached = batched.Run(again);
  ExpectEqual(TextsOf(cached), want, "from the cache");
  EXPECT_EQ(cached.at(kAgain + specs[9].id).cached_tokens, 64) << specs[9].prompt_length;
  ExpectEqual(TextsOf(EngineRunner(MakeExecutor(options_), {.step_tokens = 33, .depth = 2}).Run(specs)), want, "in chunks");
  GpuOptions tight = options_;
  tight.session_len = 320;
  tight.kv_bytes = 14 * KvBlockBytes(model_.spec, tight.dtype);
  EngineRunner resumed(MakeExecutor(tight), {.depth = 2});
  ExpectEqual(TextsOf(resumed.Run(specs)), want, "resumed");
  EXPECT_GT(resumed.stats().preemptions, 0u);

  // Without log-probabilities decode steps are recorded ones.
  for (SequenceSpec& spec : specs) spec.sampling.logprobs = -1;
  for (const auto& [id, tokens] : Run(specs, options_, 2)) EXPECT_EQ(tokens, want.at(id).first) << "recorded, " << id;
}

INSTANTIATE_TEST_SUITE_P(HeadSizes, BatchInvariantTest,
                         ::testing::Values(std::pair(64, false), std::pair(128, false), std::pair(128, true),
                                           std::pair(80, false)));

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
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("the KV cache of one sequence of 512 tokens needs"));
  GpuOptions absent = options_;
  absent.device = 99;
  EXPECT_EQ(MakeExecutor(absent).status().code(), absl::StatusCode::kFailedPrecondition);
}

// These need no device.
TEST(GpuModelTest, ShapesThatNoTunedKernelTakesAreNamed) {
  model::DecoderSpec spec = TinyModel(kShape).spec;
  spec.vocab = 320;
  EXPECT_EQ(UntunedShapes(spec), "");
  spec.layers[1].attention.head_dim = 80;
  spec.layers[2].attention.latent.rank = 512;
  spec.layers[2].attention.head_dim = 576;
  EXPECT_EQ(UntunedShapes(spec), "heads of 80");
  spec.layers[0].attention = {.head_dim = 40, .latent = {.rank = 32}};
  spec.vocab = 50257;
  spec.hidden = 64;
  EXPECT_EQ(UntunedShapes(spec), "a hidden size of 64, a vocabulary of 50257, heads of 80, latents of 32 and 8");
}

TEST(GpuModelTest, WhatSharedMemoryDoesNotHoldIsRefused) {
  const auto message = [](const model::DecoderSpec& spec) {
    const absl::Status status = CheckGpuModel(spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    return std::string(status.message());
  };
  model::DecoderSpec spec = TinyModel(kShape).spec;
  EXPECT_EQ(CheckGpuModel(spec), absl::OkStatus());
  spec.layers[1].attention.head_dim = 600;
  EXPECT_THAT(message(spec), ::testing::HasSubstr("attention with keys of 600 and values of 600"));
  spec.layers[1].attention.latent.rank = 512;
  EXPECT_EQ(CheckGpuModel(spec), absl::OkStatus());
  spec.layers[1].attention.latent.rank = 0;
  spec.layers[1].attention.head_dim = 64;
  spec.layers[2].moe.routing.experts = 4000;
  EXPECT_THAT(message(spec), ::testing::HasSubstr("4000 experts"));
}

TEST_F(CudaExecutorTest, MemoryThatWeightsMissIsSaid) {
  auto uploader = MakeGpuUploader(options_);
  ASSERT_TRUE(uploader.ok()) << uploader.status();
  const absl::Status status = (*uploader)->Reserve({.matrix_elements = int64_t{1} << 41, .weights = 1});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              ::testing::ContainsRegex("the weights take [0-9]+ MiB of device 0.*MiB are missing"));
}

// A fault spoils the process's context, so it happens in a process of its own.
TEST_F(CudaExecutorTest, ADeviceFaultEndsEveryPlanAndNothingHangs) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
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
  EXPECT_EXIT(fault(), ::testing::ExitedWithCode(3), "");
}

}  // namespace
}  // namespace berth::runtime
