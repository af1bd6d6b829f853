#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/buffer.h"
#include "tests/support/decoder_runner.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "worker/loader/load_plan.h"
#include "worker/loader/materialize.h"
#include "worker/loader/model_loader.h"

namespace berth::model {
namespace {

using berth::testing::GoldenPrompt;
using berth::testing::LargestDifference;
using berth::testing::PromptLogits;
using berth::testing::StoredTensor;

// Logits have a standard deviation of 2.4; two right f32 implementations differ by up to 7e-5.
constexpr double kBar = 2e-4;

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

  // The largest difference to the golden logits over all prompts.
  double Error() const {
    loader::CheckpointIndex index;
    for (const StoredTensor& tensor : checkpoint) {
      index.push_back({.name = tensor.name,
                       .dtype = tensor.dtype,
                       .shape = tensor.shape,
                       .data = {reinterpret_cast<const std::byte*>(tensor.bytes.data()), tensor.bytes.size()}});
    }
    const loader::LoadPlan plan = loader::BuildPlan(spec, rules, index, {}).value();
    const loader::MaterializedWeights weights = loader::Materialize(spec, plan, index, kernels::HostAllocator()).value();
    double error = 0;
    for (const GoldenPrompt& prompt : prompts) {
      error = std::max(error, LargestDifference(PromptLogits(spec, weights.weights, prompt.tokens), prompt.logits));
    }
    return error;
  }

  DecoderSpec spec;
  std::vector<WeightRule> rules;
  std::vector<StoredTensor> checkpoint;
  std::vector<GoldenPrompt> prompts;
};

class GoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, LogitsEqualTransformers) {
  const berth::testing::TempDir directory;
  berth::testing::WriteTinyModel(GetParam(), directory.path());
  const absl::StatusOr<loader::LoadedModel> model = loader::LoadModel(directory.path());
  ASSERT_TRUE(model.ok()) << model.status();
  for (const GoldenPrompt& prompt : berth::testing::TinyGolden(GetParam())) {
    EXPECT_LT(LargestDifference(PromptLogits(model->spec, model->weights, prompt.tokens), prompt.logits), kBar)
        << prompt.tokens.size() << " tokens";
  }
}

// The goldens see every tensor: without one of them, or with its rows in another order, the bar is missed by 10 times.
TEST_P(GoldenTest, EveryTensorCounts) {
  Subject subject(GetParam());
  subject.prompts.erase(subject.prompts.begin() + 2);  // the long one
  for (StoredTensor& tensor : subject.checkpoint) {
    const std::string original = tensor.bytes;
    tensor.bytes.assign(original.size(), '\0');
    EXPECT_GT(subject.Error(), 10 * kBar) << tensor.name << " zeroed";
    const size_t row = original.size() / tensor.shape[0];
    tensor.bytes = original.substr(row) + original.substr(0, row);
    EXPECT_GT(subject.Error(), 10 * kBar) << tensor.name << " rotated by one row";
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
  expect_miss("theta", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.theta *= 2; });
  expect_miss("scale", [](DecoderSpec&, LayerSpec& layer) { layer.attention.scale *= 1.1f; });
  expect_miss("activation", [](DecoderSpec&, LayerSpec& layer) { layer.mlp.activation = kernels::Activation::kGelu; });
  expect_miss("epsilon of the final norm", [](DecoderSpec& spec, LayerSpec&) { spec.final_norm.epsilon = 1; });
  expect_miss("epsilon of attention norms", [](DecoderSpec&, LayerSpec& layer) { layer.attention_norm.epsilon *= 2; });
  expect_miss("epsilon of MLP norms", [](DecoderSpec&, LayerSpec& layer) { layer.mlp_norm.epsilon *= 2; });
  const AttentionSpec& attention = original.spec.layers[0].attention;
  if (attention.window != 0) {
    expect_miss("no window", [](DecoderSpec&, LayerSpec& layer) { layer.attention.window = 0; });
    expect_miss("window", [](DecoderSpec&, LayerSpec& layer) { layer.attention.window += 1; });
  }
  if (attention.rope.scaling != RopeScaling::kNone) {
    expect_miss("no scaling", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.scaling = RopeScaling::kNone; });
    expect_miss("factor", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.factor *= 1.5; });
  }
  if (attention.rope.scaling == RopeScaling::kLlama3) {
    expect_miss("low factor", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.low_frequency_factor = 0.5; });
    expect_miss("high factor", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.high_frequency_factor = 6; });
    expect_miss("length", [](DecoderSpec&, LayerSpec& layer) { layer.attention.rope.original_max_position *= 2; });
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest, ::testing::ValuesIn(berth::testing::TinyModelNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace berth::model
