#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "tests/worker/runtime/engine_runner.h"
#include "tests/worker/runtime/tiny_model.h"
#include "worker/loader/device_weights.h"
#include "worker/runtime/gpu.h"

namespace berth::runtime {

inline constexpr TinyModelOptions kShape = {
    .layers = 3, .hidden = 256, .q_heads = 4, .kv_heads = 2, .head_dim = 64, .intermediate = 512};

inline engine::SequenceSpec Prompt(engine::SequenceId id, int length, int max_tokens) {
  std::mt19937 random(static_cast<unsigned>(id));
  engine::SequenceSpec spec{.id = id, .prompt_length = length, .max_tokens = max_tokens, .sampling = {.temperature = 0}};
  for (int i = 0; i < length; ++i) spec.tokens.push_back(static_cast<int32_t>(random() % kShape.vocab));
  return spec;
}

// Prompts of many lengths with every kind of sampling.
inline std::vector<engine::SequenceSpec> MixedRequests(int count) {
  std::vector<engine::SequenceSpec> specs;
  for (int i = 0; i < count; ++i) {
    engine::SequenceSpec spec = Prompt(100 + i, 1 + i * 11 % 170, 12 + i);
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

inline std::map<engine::SequenceId, std::vector<int32_t>> Tokens(const std::map<engine::SequenceId, Output>& outputs) {
  std::map<engine::SequenceId, std::vector<int32_t>> tokens;
  for (const auto& [id, output] : outputs) tokens[id] = output.tokens;
  return tokens;
}

class CudaModelTest : public ::testing::Test {
 protected:
  explicit CudaModelTest(const TinyModelOptions& shape = kShape) : model_(shape) {
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
  std::map<engine::SequenceId, std::vector<int32_t>> Run(const std::vector<engine::SequenceSpec>& specs,
                                                         const GpuOptions& options, int depth, bool prefix_cache = true) {
    return Tokens(EngineRunner(MakeExecutor(options), {.depth = depth, .prefix_cache = prefix_cache}).Run(specs));
  }

  TinyModel model_;
  loader::MaterializedWeights weights_;
  GpuOptions options_ = {.slots = 32, .max_step_tokens = 256, .kv_bytes = size_t{64} << 20};
};

}  // namespace berth::runtime
