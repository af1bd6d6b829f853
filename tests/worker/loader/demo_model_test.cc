#include <filesystem>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/decoder_runner.h"
#include "tests/support/files.h"
#include "worker/loader/convert.h"
#include "worker/loader/model_loader.h"

namespace berth::loader {
namespace {

std::string DemoModel() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(".cache/models", error)) {
    if (entry.path().extension() == ".gguf") return entry.path().string();
  }
  return "";
}

// SmolLM2-135M-Instruct, Q4_1 with a Q8_0 embedding.
TEST(DemoModelTest, LoadsWithItsWeightsMapped) {
  const std::string path = DemoModel();
  if (path.empty()) GTEST_SKIP() << "no .cache/models/*.gguf: deploy/quickstart downloads the demo model";
  const absl::StatusOr<LoadedModel> model = LoadModel(path);
  ASSERT_TRUE(model.ok()) << model.status();

  EXPECT_EQ(model->name + ".gguf", std::filesystem::path(path).filename());
  EXPECT_EQ(model->spec.hidden, 576);
  EXPECT_EQ(model->spec.vocab, 49152);
  EXPECT_TRUE(model->spec.tied_head);
  ASSERT_EQ(model->weights.layers.size(), 30u);
  EXPECT_EQ(model->weights.head.segments[0].data, model->weights.embed.segments[0].data);
  EXPECT_EQ(model->weights.embed.segments[0].dtype, kernels::DType::kQ8_0);

  const model::LayerWeights& layer = model->weights.layers[29];
  EXPECT_EQ(layer.qkv.n(), (9 + 2 * 3) * 64);
  EXPECT_EQ(layer.qkv.k, 576);
  EXPECT_EQ(layer.mlp_up.n(), 2 * 1536);
  EXPECT_EQ(layer.mlp_up.segments[0].dtype, kernels::DType::kQ4_1);
  EXPECT_EQ(layer.attention_norm.weight.dim(0), 576);

  EXPECT_EQ(model->tokenizer.pieces.size(), 49152u);
  EXPECT_EQ(model->tokenizer.generation_eos_ids, std::vector<int32_t>{2});
  EXPECT_FALSE(model->tokenizer.chat_template.empty());
}

TEST(DemoModelTest, AWorkspaceIsTheSameModel) {
  const std::string path = DemoModel();
  if (path.empty()) GTEST_SKIP() << "no .cache/models/*.gguf: deploy/quickstart downloads the demo model";
  const berth::testing::TempDir directory;
  const absl::StatusOr<Conversion> done = ConvertModel(path, {.destination = directory.PathOf("workspace")});
  ASSERT_TRUE(done.ok()) << done.status();
  const LoadedModel direct = LoadModel(path).value(), converted = LoadModel(directory.PathOf("workspace")).value();
  EXPECT_EQ(converted.name, direct.name);
  const std::vector<int32_t> prompt = {1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173};
  EXPECT_EQ(berth::testing::PromptLogits(converted.spec, converted.weights, prompt),
            berth::testing::PromptLogits(direct.spec, direct.weights, prompt));
  EXPECT_EQ(converted.tokenizer.pieces, direct.tokenizer.pieces);
  EXPECT_EQ(converted.tokenizer.chat_template, direct.tokenizer.chat_template);
  EXPECT_EQ(converted.tokenizer.generation_eos_ids, direct.tokenizer.generation_eos_ids);
}

TEST(DemoModelTest, FingerprintIsTheSameEveryTime) {
  const std::string path = DemoModel();
  if (path.empty()) GTEST_SKIP() << "no .cache/models/*.gguf: deploy/quickstart downloads the demo model";
  EXPECT_EQ(LoadModel(path)->fingerprint, LoadModel(path)->fingerprint);
}

}  // namespace
}  // namespace berth::loader
