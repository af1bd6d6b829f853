#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/buffer.h"
#include "tests/support/decoder_runner.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "tests/worker/runtime/engine_runner.h"
#include "worker/loader/load_plan.h"
#include "worker/loader/materialize.h"
#include "worker/loader/model_loader.h"

namespace berth::model {
namespace {

using berth::testing::GoldenPrompt;
using berth::testing::LargestDifference;
using berth::testing::PromptLogits;
using berth::testing::StoredTensor;

// Of the logits' standard deviation; two right f32 implementations differ by up to 5e-5.
constexpr double kBar = 1e-4;

double Deviation(const std::vector<GoldenPrompt>& prompts) {
  double sum = 0, squares = 0, count = 0;
  for (const GoldenPrompt& prompt : prompts) {
    for (const std::vector<float>& row : prompt.logits) {
      for (const double x : row) {
        sum += x;
        squares += x * x;
        ++count;
      }
    }
  }
  return std::sqrt(squares / count - sum / count * sum / count);
}

// The largest difference to the golden logits at the positions that have them.
double GoldenError(const DecoderSpec& spec, const DecoderWeights& weights, const GoldenPrompt& prompt) {
  const std::vector<std::vector<float>> logits = PromptLogits(spec, weights, prompt.tokens, 0, prompt.image_positions);
  std::vector<std::vector<float>> stored;
  for (const int position : prompt.positions) stored.push_back(logits[position]);
  return LargestDifference(stored, prompt.logits);
}

// A tiny model whose checkpoint and spec a test can change before it runs.
struct Subject {
  explicit Subject(const std::string& name)
      : checkpoint(berth::testing::TinyCheckpoint(name)), prompts(berth::testing::TinyGolden(name)) {
    const std::string config_path = "tests/golden/models/tiny/" + name + "/config.json";
    const HfConfig config = HfConfig::Parse(berth::testing::ReadFile(config_path)).value();
    const Family* family = FindFamily(config).value();
    spec = family->parse(config).value();
    rules = family->rules(spec);
  }

  loader::MaterializedWeights Load() const {
    loader::CheckpointIndex index;
    for (const StoredTensor& tensor : checkpoint) {
      index.push_back({.name = tensor.name,
                       .dtype = tensor.dtype,
                       .shape = tensor.shape,
                       .data = {reinterpret_cast<const std::byte*>(tensor.bytes.data()), tensor.bytes.size()}});
    }
    const loader::LoadPlan plan = loader::BuildPlan(spec, rules, index, {}).value();
    return loader::Materialize(spec, plan, index, kernels::HostAllocator()).value();
  }

  // The largest difference to the golden logits over all prompts.
  double Error() const {
    const loader::MaterializedWeights weights = Load();
    double error = 0;
    for (const GoldenPrompt& prompt : prompts) {
      error = std::max(error, GoldenError(spec, weights.weights, prompt));
    }
    return error / deviation;
  }

  DecoderSpec spec;
  std::vector<WeightRule> rules;
  std::vector<StoredTensor> checkpoint;
  std::vector<GoldenPrompt> prompts;
  const double deviation = Deviation(prompts);
};

class GoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, LogitsEqualTheReference) {
  const berth::testing::TempDir directory;
  berth::testing::WriteTinyModel(GetParam(), directory.path());
  const absl::StatusOr<loader::LoadedModel> model = loader::LoadModel(directory.path());
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<GoldenPrompt> prompts = berth::testing::TinyGolden(GetParam());
  double error = 0;
  for (const GoldenPrompt& prompt : prompts) error = std::max(error, GoldenError(model->spec, model->weights, prompt));
  RecordProperty("error", absl::StrCat(error / Deviation(prompts)));
  EXPECT_LT(error / Deviation(prompts), kBar);
}

TEST_P(GoldenTest, ChunksAndSingleTokensGiveTheSameBits) {
  const Subject subject(GetParam());
  const loader::MaterializedWeights weights = subject.Load();
  const auto logits = [&](int step) {
    const GoldenPrompt& prompt = subject.prompts.back();
    return PromptLogits(subject.spec, weights.weights, prompt.tokens, step, prompt.image_positions);
  };
  for (const int step : {1, 16}) EXPECT_EQ(logits(step), logits(0)) << step;
}

// The goldens see every tensor: without one of them, or with its rows in another order, the bar is missed by 10 times.
TEST_P(GoldenTest, EveryTensorCounts) {
  Subject subject(GetParam());
  const bool experts = subject.spec.layers.back().moe.routing.experts > 0;
  if (!experts) subject.prompts.erase(subject.prompts.begin() + 2);  // the long one, which chooses every expert
  for (StoredTensor& tensor : subject.checkpoint) {
    const std::string original = tensor.bytes;
    tensor.bytes.assign(original.size(), '\0');
    EXPECT_GT(subject.Error(), 10 * kBar) << tensor.name << " zeroed";
    const size_t row = original.size() / tensor.shape[0];
    tensor.bytes = original.substr(row) + original.substr(0, row);
    if (tensor.shape[0] > 1) {
      EXPECT_GT(subject.Error(), 10 * kBar) << tensor.name << " rotated by one row";
    }
    tensor.bytes = original;
  }
}

// The goldens see every number of the spec that the families set.
TEST_P(GoldenTest, EveryFieldCounts) {
  const Subject original(GetParam());
  const auto expect_miss = [&](const char* what, auto change) {
    Subject subject = original;
    for (LayerSpec& layer : subject.spec.layers) change(subject.spec, layer);
    EXPECT_GT(subject.Error(), 10 * kBar) << what;
  };
  const LayerSpec& layer = original.spec.layers.back();
  const AttentionSpec& attention = layer.attention;
  expect_miss("scale", [](DecoderSpec&, LayerSpec& layer) { layer.attention.scale *= 1.1f; });
  expect_miss("activation", [](DecoderSpec&, LayerSpec& layer) {
    layer.mlp.activation = layer.moe.activation =
        layer.mlp.activation == kernels::Activation::kSilu ? kernels::Activation::kGelu : kernels::Activation::kSilu;
  });
  expect_miss("epsilon of the final norm", [](DecoderSpec& spec, LayerSpec&) { spec.final_norm.epsilon += 20; });
  expect_miss("epsilon of attention norms", [](DecoderSpec&, LayerSpec& layer) { layer.attention_norm.epsilon += 0.5f; });
  if (!layer.shared_norm) {
    expect_miss("epsilon of MLP norms", [](DecoderSpec&, LayerSpec& layer) { layer.mlp_norm.epsilon += 0.5f; });
  }
  if (attention.rope.rotary_dim != 0) {
    expect_miss("theta", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.theta *= 2; });
    expect_miss("rotary dimensions", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.rotary_dim -= 2; });
  }
  if (attention.alibi != 0) {
    expect_miss("alibi", [](DecoderSpec&, LayerSpec& layer) { layer.attention.alibi *= 1.1f; });
  }
  if (attention.softcap != 0) {
    expect_miss("softcap", [](DecoderSpec&, LayerSpec& layer) { layer.attention.softcap *= 2; });
    expect_miss("softcap of the logits", [](DecoderSpec& spec, LayerSpec&) { spec.logit_softcap *= 1.1f; });
  }
  if (attention.latent.rank != 0) {
    expect_miss("epsilon of latents", [](DecoderSpec&, LayerSpec& layer) { layer.attention.latent.norm.epsilon += 0.5f; });
  }
  if (attention.clip != 0) {
    expect_miss("clip", [](DecoderSpec&, LayerSpec& layer) { layer.attention.clip *= 1.1f; });
  }
  if (attention.log_length != 0) {
    expect_miss("log length", [](DecoderSpec&, LayerSpec& layer) { layer.attention.log_length += 4; });
  }
  if (original.spec.embed_scale != 1) {
    expect_miss("embed scale", [](DecoderSpec& spec, LayerSpec&) { spec.embed_scale *= 1.1f; });
  }
  if (layer.branch_scale != 1) {
    expect_miss("branch scale", [](DecoderSpec&, LayerSpec& layer) { layer.branch_scale *= 1.1f; });
  }
  if (layer.parallel) {
    expect_miss("parallel", [](DecoderSpec&, LayerSpec& layer) { layer.parallel = false; });
  }
  if (layer.moe.routing.experts != 0) {
    expect_miss("experts per token", [](DecoderSpec&, LayerSpec& layer) { layer.moe.routing.top_k -= 1; });
    if (layer.moe.routing.scale != 1) {
      expect_miss("scale of the experts", [](DecoderSpec&, LayerSpec& layer) { layer.moe.routing.scale *= 1.1f; });
    }
    if (layer.moe.routing.top_groups < layer.moe.routing.groups) {
      expect_miss("groups", [](DecoderSpec&, LayerSpec& layer) { layer.moe.routing.top_groups += 1; });
    }
    if (layer.moe.routing.group_best > 1) {
      expect_miss("experts that make a group good", [](DecoderSpec&, LayerSpec& layer) { layer.moe.routing.group_best = 1; });
    }
    expect_miss("renormalized",
                [](DecoderSpec&, LayerSpec& layer) { layer.moe.routing.renormalize = !layer.moe.routing.renormalize; });
  }
  if (attention.window != 0) {
    expect_miss("no window", [](DecoderSpec&, LayerSpec& layer) { layer.attention.window = 0; });
    expect_miss("window", [](DecoderSpec&, LayerSpec& layer) { layer.attention.window += 1; });
  }
  const std::vector<int>& lengths = original.spec.rope_lengths;
  const bool variants = !lengths.empty() && lengths[0] < static_cast<int>(original.prompts.back().tokens.size());
  const RopeScaling scaling = attention.rope.scaling;
  if (scaling != RopeScaling::kNone && (scaling != RopeScaling::kDynamic || variants)) {
    expect_miss("no scaling", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.scaling = RopeScaling::kNone; });
    expect_miss("factor", [](DecoderSpec&, LayerSpec& layer) {
      layer.attention.rope.factor *= 1.5;
      for (double& divisor : layer.attention.rope.divisors) divisor *= 1.5;
    });
  }
  if (variants) {
    expect_miss("variant", [](DecoderSpec& spec, LayerSpec&) { spec.rope_lengths = {1000}; });
    expect_miss("long divisors", [](DecoderSpec&, LayerSpec& layer) {
      layer.attention.rope.original_max_position *= 2;
      layer.attention.rope.factor *= 1.5;
      for (double& divisor : layer.attention.rope.long_divisors) divisor *= 1.5;
    });
  }
  if (attention.rope.attention_scale != 1) {
    expect_miss("rope's scale", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.attention_scale = 1; });
  }
  if (scaling == RopeScaling::kLlama3) {
    expect_miss("low factor", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.low_frequency_factor = 0.5; });
    expect_miss("high factor", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.high_frequency_factor = 6; });
    expect_miss("length", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.original_max_position *= 2; });
  }
}

// Log-probabilities of prompts, through the engine.
class ScoreTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ScoreTest, EqualsTheReference) {
  const berth::testing::TempDir directory;
  berth::testing::WriteTinyModel(GetParam(), directory.path());
  const loader::LoadedModel model = loader::LoadModel(directory.path()).value();
  runtime::EngineRunner engine({model.spec, model.weights, model.spec.vocab}, {.engine = {.step_tokens = 32}});
  int compared = 0;
  for (const GoldenPrompt& prompt : berth::testing::TinyGolden(GetParam())) {
    const int length = static_cast<int>(prompt.tokens.size());
    engine::SequenceSpec spec{.id = 1, .tokens = prompt.tokens, .prompt_length = length, .sampling = {.logprobs = 2}};
    spec.score_prompt = true;
    const std::vector<engine::TokenLogprobs> scores = engine.Run({spec})[spec.id].prompt_logprobs;
    ASSERT_EQ(scores.size(), static_cast<size_t>(length - 1));
    for (size_t i = 0; i < prompt.positions.size() && prompt.positions[i] + 1 < length; ++i, ++compared) {
      const std::vector<float>& logits = prompt.logits[i];
      double total = 0;
      for (const double x : logits) total += std::exp(x);
      const int position = prompt.positions[i];
      EXPECT_NEAR(scores[position].logprob, logits[prompt.tokens[position + 1]] - std::log(total), 1e-3) << position;
      EXPECT_EQ(scores[position].top[0].first, std::max_element(logits.begin(), logits.end()) - logits.begin()) << position;
    }
  }
  EXPECT_GT(compared, 0);
}

INSTANTIATE_TEST_SUITE_P(Families, ScoreTest, ::testing::Values("llama", "gemma2", "falcon"),
                         [](const auto& info) { return info.param; });

// Mean-pooled and normalised hidden states, through the engine.
class EmbeddingTest : public ::testing::TestWithParam<std::string> {};

TEST_P(EmbeddingTest, EqualsTheReference) {
  const berth::testing::TempDir directory;
  berth::testing::WriteTinyModel(GetParam(), directory.path());
  const loader::LoadedModel model = loader::LoadModel(directory.path()).value();
  const std::string stored = berth::testing::ReadFile("tests/golden/models/tiny/" + GetParam() + "/embeddings.f32");
  runtime::EngineRunner engine({model.spec, model.weights, model.spec.vocab}, {.engine = {.step_tokens = 32}});
  const std::vector<GoldenPrompt> prompts = berth::testing::TinyGolden(GetParam());
  const size_t hidden = model.spec.hidden;
  ASSERT_EQ(stored.size(), prompts.size() * hidden * sizeof(float));
  for (size_t i = 0; i < prompts.size(); ++i) {
    engine::SequenceSpec spec{
        .id = i + 1, .tokens = prompts[i].tokens, .prompt_length = static_cast<int>(prompts[i].tokens.size())};
    spec.pool = true;
    const std::vector<float> sum = engine.Run({spec})[spec.id].hidden_sum;
    ASSERT_EQ(sum.size(), hidden);
    const double length = std::sqrt(std::inner_product(sum.begin(), sum.end(), sum.begin(), 0.0));
    std::vector<float> want(hidden);
    std::memcpy(want.data(), stored.data() + i * hidden * sizeof(float), hidden * sizeof(float));
    for (size_t k = 0; k < hidden; ++k) EXPECT_NEAR(sum[k] / length, want[k], kBar) << "prompt " << i << " element " << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, EmbeddingTest, ::testing::Values("llama", "gemma2", "falcon"),
                         [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest, ::testing::ValuesIn(berth::testing::TinyModelNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace berth::model
