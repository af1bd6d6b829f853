#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/weight_uploader.h"
#include "nlohmann/json.hpp"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "worker/loader/model_loader.h"

// Checkpoints that are refused before any memory is taken, by messages with what of file, tensor and value there is.

namespace berth::loader {
namespace {

using berth::testing::ReadFile;
using berth::testing::SafetensorsFile;
using berth::testing::StoredTensor;
using berth::testing::TempDir;
using berth::testing::WriteFile;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kWeights[] = "model.safetensors";

// Memory that nobody may ask for.
class UntouchedUploader : public kernels::WeightUploader {
 public:
  absl::Status Reserve(const kernels::WeightSizes&) override { return Asked(); }
  absl::StatusOr<kernels::LinearWeight> Matrix(const kernels::LinearWeight&) override { return Asked(); }
  absl::StatusOr<kernels::Tensor> Vector(const kernels::Tensor&) override { return Asked(); }
  absl::StatusOr<kernels::LinearWeight> Random(int64_t, int64_t, uint64_t, float) override { return Asked(); }
  absl::StatusOr<std::vector<kernels::Buffer>> Finish() override { return Asked(); }

 private:
  static absl::Status Asked() {
    ADD_FAILURE() << "memory was asked for";
    return absl::InternalError("memory was asked for");
  }
};

void ChangeJson(const std::string& path, const std::function<void(json&)>& change) {
  json value = json::parse(ReadFile(path));
  change(value);
  WriteFile(path, value.dump());
}

void WriteIndex(const TempDir& directory, const json& weight_map) {
  WriteFile(directory.PathOf("model.safetensors.index.json"), json{{"weight_map", weight_map}}.dump());
}

// Makes the checkpoint one of shards, `file` the one of the final norm.
void NameShard(const TempDir& directory, const std::string& file) {
  json weight_map;
  for (const StoredTensor& tensor : berth::testing::TinyCheckpoint("llama")) weight_map[tensor.name] = "a.safetensors";
  weight_map["model.norm.weight"] = file;
  std::filesystem::rename(directory.PathOf(kWeights), directory.PathOf("a.safetensors"));
  WriteIndex(directory, weight_map);
}

StoredTensor TensorOf(const std::string& name) {
  for (StoredTensor& tensor : berth::testing::TinyCheckpoint("llama")) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << "there is no tensor " << name;
  return {};
}

// Makes the checkpoint one of two shards, a.safetensors and b.safetensors, which has that tensor alone.
void WriteShards(const TempDir& directory, const StoredTensor& spoilt) {
  json weight_map = {{spoilt.name, "b.safetensors"}};
  std::vector<StoredTensor> others;
  for (StoredTensor& tensor : berth::testing::TinyCheckpoint("llama")) {
    if (tensor.name == spoilt.name) continue;
    weight_map[tensor.name] = "a.safetensors";
    others.push_back(std::move(tensor));
  }
  WriteFile(directory.PathOf("a.safetensors"), SafetensorsFile(others));
  WriteFile(directory.PathOf("b.safetensors"), SafetensorsFile({spoilt}));
  WriteIndex(directory, weight_map);
}

struct BadCheckpoint {
  const char* name;
  std::function<void(const TempDir& directory)> spoil;
  std::vector<std::string> told;  // beside the directory
};

class BadCheckpointTest : public ::testing::TestWithParam<BadCheckpoint> {};

TEST_P(BadCheckpointTest, IsRefusedBeforeMemoryIsTaken) {
  const TempDir directory;
  berth::testing::WriteTinyModel("llama", directory.path());
  GetParam().spoil(directory);
  UntouchedUploader uploader;
  const absl::Status status = LoadModel(directory.path(), {.uploader = &uploader}).status();
  ASSERT_FALSE(status.ok());
  const std::string message(status.message());
  EXPECT_THAT(message, StartsWith(directory.path()));
  EXPECT_THAT(message, Not(HasSubstr(": " + directory.path()))) << "the path is said once";
  for (const std::string& told : GetParam().told) EXPECT_THAT(message, HasSubstr(told));
}

INSTANTIATE_TEST_SUITE_P(
    Checkpoints, BadCheckpointTest,
    ::testing::Values(
        BadCheckpoint{"MissingShard",
                      [](const TempDir& directory) { NameShard(directory, "b.safetensors"); },
                      {"/b.safetensors is missing", "tensor model.norm.weight"}},
        BadCheckpoint{"WrongShape",
                      [](const TempDir& directory) {
                        StoredTensor tensor = TensorOf("model.layers.1.mlp.up_proj.weight");
                        std::swap(tensor.shape[0], tensor.shape[1]);
                        WriteShards(directory, tensor);
                      },
                      {"/b.safetensors: tensor model.layers.1.mlp.up_proj.weight has shape [64, 96], want [96, 64]"}},
        BadCheckpoint{"ExtraTensor",
                      [](const TempDir& directory) {
                        StoredTensor tensor = TensorOf("model.norm.weight");
                        tensor.name = "more.weight";
                        WriteShards(directory, tensor);
                      },
                      {"/b.safetensors: tensor more.weight [64] has no place in this model"}},
        BadCheckpoint{"UnknownRopeType",
                      [](const TempDir& directory) {
                        ChangeJson(directory.PathOf("config.json"), [](json& config) {
                          config.erase("rope_parameters");
                          config["rope_scaling"] = {{"rope_type", "spiral"}, {"factor", 2.0}};
                        });
                      },
                      {"config.json", "rope_scaling.rope_type is \"spiral\""}},
        BadCheckpoint{"Int4WithoutItsConfiguration",
                      [](const TempDir& directory) {
                        WriteFile(
                            directory.PathOf(kWeights),
                            berth::testing::RawSafetensorsFile(
                                R"({"model.layers.0.mlp.up_proj.qweight":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}})",
                                std::string(4, '\0')));
                      },
                      {kWeights, "model.layers.0.mlp.up_proj.qweight", "\"I32\""}},
        BadCheckpoint{"VocabularyLargerThanTheHead",
                      [](const TempDir& directory) {
                        StoredTensor tensor = TensorOf("lm_head.weight");
                        tensor.shape[0] -= 8;
                        tensor.bytes.resize(tensor.shape[0] * tensor.shape[1] * sizeof(float));
                        WriteShards(directory, tensor);
                      },
                      {"/b.safetensors: tensor lm_head.weight has shape [280, 64], want [288, 64]"}},
        BadCheckpoint{"TokenizerOfAnotherModel",
                      [](const TempDir& directory) {
                        ChangeJson(directory.PathOf("tokenizer.json"),
                                   [](json& tokenizer) { tokenizer["model"]["vocab"]["another"] = 288; });
                      },
                      {"the tokenizer's token \"another\" has id 288", "vocab_size is 288"}},
        BadCheckpoint{"LinkOutOfTheDirectory",
                      [](const TempDir& directory) {
                        std::filesystem::remove(directory.PathOf(kWeights));
                        std::filesystem::create_symlink(std::filesystem::absolute("README.md"), directory.PathOf(kWeights));
                      },
                      {kWeights, "is a link to", "README.md"}},
        BadCheckpoint{"IndexNamesAFileAbove",
                      [](const TempDir& directory) { NameShard(directory, "../a.safetensors"); },
                      {"model.safetensors.index.json", "weight_map.model.norm.weight: \"../a.safetensors\" is no file name"}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace berth::loader
