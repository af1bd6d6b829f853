#include "worker/loader/workspace.h"

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/upload.h"
#include "nlohmann/json.hpp"
#include "tests/support/decoder_runner.h"
#include "tests/support/files.h"
#include "tests/support/tiny_gguf.h"
#include "tests/support/tiny_models.h"
#include "worker/loader/convert.h"
#include "worker/loader/materialize.h"
#include "worker/loader/model_files.h"
#include "worker/loader/output_file.h"

namespace berth::loader {
namespace {

using berth::testing::PromptLogits;
using berth::testing::ReadFile;
using berth::testing::StoredTensor;
using berth::testing::TempDir;
using berth::testing::WriteFile;
using ::testing::AllOf;
using ::testing::HasSubstr;

const std::vector<int32_t> kPrompt = {1, 200, 3, 40, 5, 6};

std::vector<std::vector<float>> Logits(const std::string& path) {
  const absl::StatusOr<LoadedModel> model = LoadModel(path);
  if (!model.ok()) ADD_FAILURE() << model.status();
  return model.ok() ? PromptLogits(model->spec, model->weights, kPrompt) : std::vector<std::vector<float>>();
}

std::string LoadError(const std::string& path) {
  const absl::StatusOr<LoadedModel> model = LoadModel(path);
  return model.ok() ? "no error" : std::string(model.status().message());
}

// A tiny model, and where its workspace goes.
class WorkspaceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = directory_.PathOf("tiny");
    std::filesystem::create_directory(model_);
    berth::testing::WriteTinyModel("llama", model_);
  }

  absl::StatusOr<Conversion> Convert(ConvertOptions options = {}) {
    options.destination = workspace();
    options.sync_bytes = 1;
    return ConvertModel(model_, options);
  }
  std::string ConvertError(const ConvertOptions& options = {}) {
    const absl::StatusOr<Conversion> done = Convert(options);
    return done.ok() ? "no error" : std::string(done.status().message());
  }
  // Converts in a child process that kills itself half way.
  void ConvertAndDie(ConvertOptions options = {}) {
    options.progress = [](uint64_t done, uint64_t total) {
      if (done > total / 2) raise(SIGKILL);
    };
    EXPECT_EXIT((void)Convert(options), ::testing::KilledBySignal(SIGKILL), "");
  }
  void ChangeManifest(const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json manifest = nlohmann::json::parse(ReadFile(workspace() + "/workspace.json"));
    change(manifest);
    WriteFile(workspace() + "/workspace.json", manifest.dump());
  }

  std::string workspace() const { return directory_.PathOf("workspace"); }
  std::string partial() const { return directory_.PathOf("workspace.partial"); }

  TempDir directory_;
  std::string model_;
};

TEST_F(WorkspaceTest, EveryFamilyGivesTheSameLogits) {
  for (const std::string& name : berth::testing::TinyModelNames()) {
    berth::testing::WriteTinyModel(name, model_);
    ASSERT_EQ(ConvertError(), "no error") << name;
    EXPECT_EQ(Logits(workspace()), Logits(model_)) << name;
    EXPECT_FALSE(std::filesystem::exists(partial()));
    std::filesystem::remove_all(workspace());
  }
}

TEST_F(WorkspaceTest, IsMappedFusedAndNamedAfterTheModel) {
  ASSERT_EQ(ConvertError(), "no error");
  const LoadedModel model = LoadModel(workspace()).value();
  EXPECT_EQ(model.name, "tiny");
  for (const model::LayerWeights& layer : model.weights.layers) {
    for (const kernels::LinearWeight* weight : {&layer.qkv, &layer.mlp_up, &layer.mlp_down}) {
      ASSERT_EQ(weight->segments.size(), 1u);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(weight->segments[0].data) % kWorkspaceAlignment, 0u);
    }
  }
  EXPECT_EQ(model.tokenizer.pieces, LoadModel(model_)->tokenizer.pieces);
  // A workspace is a model like any other: it can be converted again.
  const absl::StatusOr<Conversion> again = ConvertModel(workspace(), {.destination = directory_.PathOf("again")});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(Logits(directory_.PathOf("again")), Logits(model_));
}

TEST_F(WorkspaceTest, QuantisedWeightsStayAsTheyAre) {
  const std::string gguf = directory_.PathOf("tiny.gguf");
  WriteFile(gguf, berth::testing::MakeTinyGguf(kernels::DType::kQ5_0, /*tied=*/true).writer.File());
  ASSERT_TRUE(ConvertModel(gguf, {.destination = workspace()}).ok());
  const LoadedModel direct = LoadModel(gguf).value(), converted = LoadModel(workspace()).value();
  EXPECT_EQ(converted.weights.layers[0].qkv.segments[0].dtype, kernels::DType::kQ5_0);
  EXPECT_EQ(converted.weights.head.segments[0].data, converted.weights.embed.segments[0].data);
  EXPECT_EQ(Logits(workspace()), Logits(gguf));
  EXPECT_EQ(converted.tokenizer.pieces, direct.tokenizer.pieces);
  EXPECT_EQ(converted.tokenizer.generation_eos_ids, direct.tokenizer.generation_eos_ids);
}

TEST_F(WorkspaceTest, MatricesOfAnotherType) {
  ASSERT_EQ(ConvertError({.dtype = kernels::DType::kBF16}), "no error");
  std::vector<StoredTensor> checkpoint;
  for (const StoredTensor& tensor : berth::testing::TinyCheckpoint("llama")) {
    std::vector<float> values(tensor.bytes.size() / sizeof(float));
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    const auto dtype = tensor.shape.size() == 2 ? kernels::DType::kBF16 : kernels::DType::kF32;
    checkpoint.push_back(berth::testing::StoreFloats(tensor.name, tensor.shape, values, dtype));
  }
  berth::testing::WriteTinyModel("llama", checkpoint, model_);
  EXPECT_EQ(Logits(workspace()), Logits(model_));
  EXPECT_EQ(LoadModel(workspace())->weights.head.segments[0].dtype, kernels::DType::kBF16);
  EXPECT_THAT(ConvertError({.dtype = kernels::DType::kQ4_0}), HasSubstr("cannot convert to q4_0"));
}

TEST_F(WorkspaceTest, EachRankHasItsShare) {
  ASSERT_EQ(ConvertError({.ranks = 2}), "no error");
  EXPECT_THAT(LoadError(workspace()), AllOf(HasSubstr("converted for 2 ranks"), HasSubstr("--tp 1")));
  const WorkspaceManifest manifest = ParseWorkspaceManifest(ReadFile(workspace() + "/workspace.json")).value();
  const ModelFiles files = OpenModel(model_, LoadFormat::kCheckpoint).value();
  for (int rank = 0; rank < 2; ++rank) {
    const Checkpoint own = OpenWorkspaceWeights(workspace(), manifest, {rank, 2}).value();
    const LoadPlan plan = BuildPlan(files.spec, files.rules, files.checkpoint.tensors, {rank, 2}).value();
    const auto want = Materialize(files.spec, plan, files.checkpoint.tensors, kernels::HostAllocator()).value();
    const auto tensor = std::find_if(own.tensors.begin(), own.tensors.end(),
                                     [](const TensorInfo& info) { return info.name == "layers.1.qkv"; });
    ASSERT_NE(tensor, own.tensors.end());
    std::string bytes;
    for (const auto& segment : want.weights.layers[1].qkv.segments) {
      bytes.append(reinterpret_cast<const char*>(segment.data),
                   segment.rows * kernels::RowBytes(segment.dtype, tensor->columns()));
    }
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(tensor->data.data()), tensor->data.size()), bytes) << "rank " << rank;
  }
  EXPECT_THAT(ConvertError({.ranks = 3}), HasSubstr("3 ranks cannot divide"));
  EXPECT_THAT(ConvertError({.ranks = 0}), HasSubstr("0 ranks"));
}

TEST_F(WorkspaceTest, AKilledConversionLeavesNothingThatLoadsAndGoesOn) {
  ConvertAndDie();
  EXPECT_FALSE(std::filesystem::exists(workspace()));
  EXPECT_THAT(LoadError(partial()), HasSubstr("has not ended"));
  const absl::StatusOr<Conversion> resumed = Convert();
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_GT(resumed->reused, resumed->bytes / 3);
  EXPECT_LT(resumed->reused, resumed->bytes);
  EXPECT_EQ(Logits(workspace()), Logits(model_));
}

TEST_F(WorkspaceTest, WorkOfOtherOptionsOrAnotherModelIsNotReused) {
  ConvertAndDie();
  EXPECT_EQ(Convert({.dtype = kernels::DType::kF16})->reused, 0u);
  std::filesystem::remove_all(workspace());
  ConvertAndDie();
  std::vector<StoredTensor> checkpoint = berth::testing::TinyCheckpoint("llama");
  checkpoint.front().bytes[0] ^= 1;
  berth::testing::WriteTinyModel("llama", checkpoint, model_);
  EXPECT_EQ(Convert()->reused, 0u);
  EXPECT_EQ(Logits(workspace()), Logits(model_));
}

TEST_F(WorkspaceTest, OneConversionAtATime) {
  ConvertAndDie();
  OutputFile other = OutputFile::Open(partial() + "/conversion.progress").value();
  ASSERT_TRUE(other.Lock().ok());
  EXPECT_THAT(ConvertError(), HasSubstr("another process"));
}

TEST_F(WorkspaceTest, AnExistingDestinationStays) {
  WriteFile(workspace(), "mine");
  EXPECT_THAT(ConvertError(), HasSubstr("already there"));
  EXPECT_EQ(ReadFile(workspace()), "mine");
}

// A checkpoint of a TB, all of it a hole.
TEST_F(WorkspaceTest, AFullDiskIsKnownBeforeAnythingIsWritten) {
  constexpr int64_t kLayers = 100, kTinyWidth = 96, kWidth = 1 << 24;
  nlohmann::json config = nlohmann::json::parse(ReadFile(model_ + "/config.json"));
  config["num_hidden_layers"] = kLayers;
  config["intermediate_size"] = kWidth;
  WriteFile(model_ + "/config.json", config.dump());
  nlohmann::json header;
  uint64_t size = 0;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    std::replace(shape.begin(), shape.end(), kTinyWidth, kWidth);
    uint64_t bytes = sizeof(float);
    for (const int64_t dimension : shape) bytes *= dimension;
    header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {size, size + bytes}}};
    size += bytes;
  };
  const std::string kFirst = "model.layers.0.";
  for (const StoredTensor& tensor : berth::testing::TinyCheckpoint("llama")) {
    if (tensor.name.find(".layers.") == std::string::npos) add(tensor.name, tensor.shape);
    if (!tensor.name.starts_with(kFirst)) continue;
    for (int layer = 0; layer < kLayers; ++layer) {
      add("model.layers." + std::to_string(layer) + "." + tensor.name.substr(kFirst.size()), tensor.shape);
    }
  }
  const std::string file = berth::testing::RawSafetensorsFile(header.dump(), "");
  WriteFile(model_ + "/model.safetensors", file);
  std::error_code error;
  std::filesystem::resize_file(model_ + "/model.safetensors", file.size() + size, error);
  if (error) GTEST_SKIP() << "this file system has no files of " << size << " bytes: " << error.message();
  EXPECT_THAT(ConvertError(), AllOf(HasSubstr("bytes free"), HasSubstr("are missing"), HasSubstr(workspace())));
  EXPECT_FALSE(std::filesystem::exists(partial() + "/weights-0-of-1.bin"));
}

TEST_F(WorkspaceTest, DamagedFilesAreRefused) {
  ASSERT_EQ(ConvertError(), "no error");
  const std::string path = workspace() + "/weights-0-of-1.bin", whole = ReadFile(path);
  std::string damaged = whole;
  damaged[damaged.size() / 2] ^= 1;
  WriteFile(path, damaged);
  EXPECT_THAT(LoadError(workspace()),
              AllOf(HasSubstr(workspace()), HasSubstr("weights-0-of-1.bin: tensor layers."), HasSubstr("has checksum")));
  const auto uploader = kernels::MakeCpuWeightUploader({});
  EXPECT_THAT(std::string(LoadModel(workspace(), {.uploader = uploader.get()}).status().message()), HasSubstr("has checksum"));
  WriteFile(path, whole.substr(0, whole.size() / 2));
  EXPECT_THAT(LoadError(workspace()), AllOf(HasSubstr(path), HasSubstr("truncated: tensor")));
  std::filesystem::remove(path);
  EXPECT_THAT(LoadError(workspace()), HasSubstr(path));
}

TEST_F(WorkspaceTest, WrongManifestsAreRefused) {
  ASSERT_EQ(ConvertError(), "no error");
  const std::string good = ReadFile(workspace() + "/workspace.json");
  struct Case {
    const char* pointer;
    nlohmann::json value;
    const char* error;
  };
  const Case cases[] = {
      {"/layout_version", 1, "layout_version is 1, this program reads 2"},
      {"/layout_version", "1", "layout_version is not an integer"},
      {"/ranks", 0, "ranks is 0"},
      {"/model", nullptr, "model is not a string"},
      {"/tensors", nullptr, "tensors is not an array"},
      {"/tensors/0/dtype", "q9", "tensors[0].dtype is \"q9\""},
      {"/tensors/0/shape", {1, 2, 3}, "tensors[0].shape has not one or two dimensions"},
      {"/tensors/0/shape", {-1}, "tensors[0].shape is not a shape"},
      {"/tensors/0/shape", {int64_t{1} << 40, int64_t{1} << 40}, "is too large"},
      {"/tensors/0/offset", 17, "tensors[0].offset is 17, which is no multiple of 4096"},
      {"/tensors/0/offset", int64_t{1} << 62, "truncated"},
      {"/tensors/1/offset", 0, "has offset 0, and the one before it ends at "},
      {"/tensors/0/checksums", nlohmann::json::array(), "checksums has 0 values"},
      {"/tensors/0/checksums/0", "xyz", "no hexadecimal number"},
      {"/tensors/0/name", "embeddings", "tensor embeddings [288, 64] has no place"},
  };
  for (const Case& bad : cases) {
    WriteFile(workspace() + "/workspace.json", good);
    ChangeManifest([&](nlohmann::json& manifest) { manifest[nlohmann::json::json_pointer(bad.pointer)] = bad.value; });
    EXPECT_THAT(LoadError(workspace()), HasSubstr(bad.error)) << bad.pointer;
  }
  WriteFile(workspace() + "/workspace.json", good.substr(0, good.size() / 2));
  EXPECT_THAT(LoadError(workspace()), HasSubstr("workspace.json"));
}

}  // namespace
}  // namespace berth::loader
