#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/upload.h"
#include "nlohmann/json.hpp"
#include "tests/support/decoder_runner.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "worker/loader/model_loader.h"
#include "worker/text/tokenizer.h"

namespace berth::loader {
namespace {

using berth::testing::ReadFile;
using berth::testing::SafetensorsFile;
using berth::testing::StoredTensor;
using berth::testing::TempDir;
using berth::testing::WriteFile;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A directory with a tiny model, for a test to change.
class HfDirectoryTest : public ::testing::Test {
 protected:
  HfDirectoryTest() { berth::testing::WriteTinyModel("llama", directory_.path()); }

  void Write(std::string_view name, std::string_view text) { WriteFile(directory_.PathOf(name), text); }
  void Remove(std::string_view name) { std::filesystem::remove(directory_.PathOf(name)); }
  void SetConfig(const std::string& field, const nlohmann::json& value) {
    nlohmann::json config = nlohmann::json::parse(ReadFile(directory_.PathOf("config.json")));
    config[field] = value;
    Write("config.json", config.dump());
  }
  absl::StatusOr<LoadedModel> Load() { return LoadModel(directory_.path()); }
  std::string Error() {
    const absl::StatusOr<LoadedModel> model = Load();
    return model.ok() ? "no error" : std::string(model.status().message());
  }
  // Splits the checkpoint into two files and writes their index.
  void Shard(const std::function<void(nlohmann::json& weight_map)>& change_index) {
    std::vector<StoredTensor> parts[2];
    nlohmann::json weight_map;
    for (StoredTensor& tensor : berth::testing::TinyCheckpoint("llama")) {
      const int part = tensor.name.find("layers.1") != std::string::npos;
      weight_map[tensor.name] = part == 0 ? "a.safetensors" : "b.safetensors";
      parts[part].push_back(std::move(tensor));
    }
    change_index(weight_map);
    Remove("model.safetensors");
    Write("a.safetensors", SafetensorsFile(parts[0]));
    Write("b.safetensors", SafetensorsFile(parts[1]));
    Write("model.safetensors.index.json", nlohmann::json{{"metadata", {}}, {"weight_map", weight_map}}.dump());
  }

  TempDir directory_;
};

TEST_F(HfDirectoryTest, KeepsMatricesInTheFileAndTheCheckpointsType) {
  std::vector<StoredTensor> checkpoint;
  for (const StoredTensor& tensor : berth::testing::TinyCheckpoint("llama")) {
    std::vector<float> values(tensor.bytes.size() / sizeof(float));
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    checkpoint.push_back(berth::testing::StoreFloats(tensor.name, tensor.shape, values, kernels::DType::kBF16));
  }
  Write("model.safetensors", SafetensorsFile(checkpoint));
  const LoadedModel model = Load().value();
  const model::LayerWeights& layer = model.weights.layers[1];
  ASSERT_EQ(layer.qkv.segments.size(), 3u);
  ASSERT_EQ(layer.mlp_up.segments.size(), 2u);
  EXPECT_EQ(layer.qkv.segments[0].dtype, kernels::DType::kBF16);
  EXPECT_EQ(layer.attention_norm.weight.dtype(), kernels::DType::kF32);
  const auto* bytes = reinterpret_cast<const char*>(layer.mlp_up.segments[1].data);
  const auto up = std::find_if(checkpoint.begin(), checkpoint.end(),
                               [](const StoredTensor& tensor) { return tensor.name == "model.layers.1.mlp.up_proj.weight"; });
  EXPECT_EQ(std::string(bytes, up->bytes.size()), up->bytes);
}

TEST_F(HfDirectoryTest, DataAtOddOffsetsIsCopied) {
  const auto prompt = std::vector<int32_t>{1, 2, 3};
  const LoadedModel even = Load().value();
  const TempDir odd_directory;
  berth::testing::WriteTinyModel("llama", odd_directory.path());
  WriteFile(odd_directory.PathOf("model.safetensors"), SafetensorsFile(berth::testing::TinyCheckpoint("llama"), 3));
  const LoadedModel odd = LoadModel(odd_directory.path()).value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(odd.weights.embed.segments[0].data) % sizeof(float), 0u);
  EXPECT_EQ(berth::testing::PromptLogits(odd.spec, odd.weights, prompt),
            berth::testing::PromptLogits(even.spec, even.weights, prompt));
}

TEST_F(HfDirectoryTest, ShardedCheckpointsLoadAlike) {
  const auto prompt = std::vector<int32_t>{1, 2, 3};
  const LoadedModel whole = Load().value();
  Shard([](nlohmann::json&) {});
  const absl::StatusOr<LoadedModel> sharded = Load();
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  EXPECT_EQ(berth::testing::PromptLogits(sharded->spec, sharded->weights, prompt),
            berth::testing::PromptLogits(whole.spec, whole.weights, prompt));
}

TEST_F(HfDirectoryTest, ShardIndexMustBeTrue) {
  Shard([](nlohmann::json& map) { map["model.norm.weight"] = "b.safetensors"; });
  EXPECT_THAT(Error(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("a.safetensors")));
  Shard([](nlohmann::json& map) { map.erase("model.norm.weight"); });
  EXPECT_THAT(Error(), HasSubstr("model.norm.weight"));
  Shard([](nlohmann::json& map) { map["more.weight"] = "a.safetensors"; });
  EXPECT_THAT(Error(), HasSubstr("tensor more.weight is not in"));
  Shard([](nlohmann::json& map) { map["more.weight"] = "c.safetensors"; });
  EXPECT_THAT(Error(), HasSubstr("c.safetensors"));
  Shard([](nlohmann::json& map) { map["more.weight"] = "../../etc/passwd"; });
  EXPECT_THAT(Error(), AllOf(HasSubstr("more.weight"), HasSubstr("is no file name")));
  Shard([](nlohmann::json& map) { map["more.weight"] = 3; });
  EXPECT_THAT(Error(), HasSubstr("weight_map.more.weight"));
  Write("model.safetensors.index.json", "{}");
  EXPECT_THAT(Error(), HasSubstr("weight_map"));
}

TEST_F(HfDirectoryTest, TiedHeadMayBeStoredTwiceButMustBeEqual) {
  SetConfig("tie_word_embeddings", true);
  std::vector<StoredTensor> checkpoint = berth::testing::TinyCheckpoint("llama");
  EXPECT_THAT(Error(), HasSubstr("tensor lm_head.weight differs from model.embed_tokens.weight"));
  for (StoredTensor& tensor : checkpoint) {
    if (tensor.name == "lm_head.weight") tensor.bytes = checkpoint.front().bytes;
  }
  ASSERT_EQ(checkpoint.front().name, "model.embed_tokens.weight");
  Write("model.safetensors", SafetensorsFile(checkpoint));
  EXPECT_TRUE(Load().ok()) << Error();
}

TEST_F(HfDirectoryTest, PickledWeightsAreRefusedWithAdvice) {
  Remove("model.safetensors");
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound);
  Write("pytorch_model.bin", "pickle");
  EXPECT_THAT(Error(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("save_pretrained")));
  Remove("pytorch_model.bin");
  Remove("config.json");
  Write("consolidated.00.pth", "pickle");
  EXPECT_THAT(Error(), AllOf(HasSubstr("consolidated.00.pth"), HasSubstr("convert_llama_weights_to_hf --input_dir")));
}

TEST_F(HfDirectoryTest, QuantisedCheckpointsAreNamed) {
  SetConfig("quantization_config", {{"quant_method", "awq"}, {"bits", 4}});
  EXPECT_THAT(Error(), AllOf(HasSubstr("config.json"), HasSubstr("quantization_config.quant_method is \"awq\"")));
  SetConfig("quantization_config", nullptr);
  Write("model.safetensors", berth::testing::RawSafetensorsFile(
                                 R"({"model.layers.0.mlp.up_proj.qweight":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}})",
                                 std::string(4, '\0')));
  EXPECT_THAT(Error(), AllOf(HasSubstr("up_proj.qweight"), HasSubstr("\"I32\""), HasSubstr("does not say how")));
}

TEST_F(HfDirectoryTest, LinksOutOfTheDirectoryAreRefused) {
  const TempDir other;
  for (const char* name : {"model.safetensors", "config.json"}) {
    std::filesystem::rename(directory_.PathOf(name), other.PathOf(name));
    std::filesystem::create_symlink(other.PathOf(name), directory_.PathOf(name));
    EXPECT_THAT(Error(), AllOf(HasSubstr(name), HasSubstr("is a link to"), HasSubstr(other.path())));
  }
}

// models--org--name/snapshots/REVISION/FILE is a link to models--org--name/blobs/HASH.
TEST_F(HfDirectoryTest, SnapshotsOfTheHubsCacheAreLinks) {
  const std::string snapshot = directory_.PathOf("snapshots/main");
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_directory(directory_.PathOf("blobs"));
  for (const std::string name : {"model.safetensors", "config.json", "tokenizer.json"}) {
    std::filesystem::rename(directory_.PathOf(name), directory_.PathOf("blobs/" + name));
    std::filesystem::create_symlink("../../blobs/" + name, snapshot + "/" + name);
  }
  const absl::StatusOr<LoadedModel> model = LoadModel(snapshot);
  EXPECT_TRUE(model.ok()) << model.status();
}

TEST_F(HfDirectoryTest, ATokenizerOfAnotherModelIsRefused) {
  nlohmann::json tokenizer = nlohmann::json::parse(ReadFile(directory_.PathOf("tokenizer.json")));
  tokenizer["model"]["vocab"]["another"] = 288;
  Write("tokenizer.json", tokenizer.dump());
  EXPECT_THAT(Error(), HasSubstr("token \"another\" has id 288, but vocab_size is 288"));
  tokenizer["model"]["vocab"].erase("another");
  tokenizer["added_tokens"].push_back({{"id", 300}, {"content", "<extra>"}, {"special", true}});
  Write("tokenizer.json", tokenizer.dump());
  EXPECT_THAT(Error(), HasSubstr("added token \"<extra>\" has id 300, but vocab_size is 288"));
}

TEST_F(HfDirectoryTest, ASentencePieceModelWithMoreTokensThanTheHeadIsRefused) {
  Remove("tokenizer.json");
  Write("tokenizer.model", ReadFile("tests/golden/text/sp_bpe.model"));
  EXPECT_THAT(Error(),
              AllOf(HasSubstr(directory_.path()), HasSubstr("tokenizer.model has 1800 tokens, but vocab_size is 288")));
}

// Heads are padded to a round number of rows; the tokenizer's size is what the sampler goes by.
TEST_F(HfDirectoryTest, AHeadMayHaveMoreRowsThanTheTokenizerTokens) {
  const std::vector<int32_t> prompt = {1, 2, 3};
  const absl::StatusOr<LoadedModel> exact = Load();
  const std::vector<std::vector<float>> want = berth::testing::PromptLogits(exact->spec, exact->weights, prompt);
  std::vector<StoredTensor> padded = berth::testing::TinyCheckpoint("llama");
  for (StoredTensor& tensor : padded) {
    if (tensor.name != "model.embed_tokens.weight" && tensor.name != "lm_head.weight") continue;
    tensor.shape[0] = 300;
    tensor.bytes.resize(300 * 64 * sizeof(float));
  }
  SetConfig("vocab_size", 300);
  Write("model.safetensors", SafetensorsFile(padded));
  const absl::StatusOr<LoadedModel> model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(text::MakeTokenizer(model->tokenizer).value()->size(), 288);
  std::vector<std::vector<float>> logits = berth::testing::PromptLogits(model->spec, model->weights, prompt);
  for (std::vector<float>& row : logits) {
    ASSERT_EQ(row.size(), 300u);
    row.resize(288);
  }
  EXPECT_EQ(logits, want);
}

TEST_F(HfDirectoryTest, ErrorsNameTheFile) {
  Remove("tokenizer.json");
  EXPECT_THAT(Error(), HasSubstr("tokenizer.model"));
  Write("tokenizer.json", "{}");
  EXPECT_THAT(Error(), HasSubstr("tokenizer.json: "));
  SetConfig("hidden_act", "foo");
  EXPECT_THAT(Error(), AllOf(HasSubstr("config.json: "), HasSubstr("hidden_act is \"foo\"")));
  SetConfig("architectures", {"FooForCausalLM"});
  EXPECT_THAT(Error(), AllOf(HasSubstr("config.json: "), HasSubstr("FooForCausalLM")));
  Write("config.json", "{");
  EXPECT_THAT(Error(), HasSubstr("config.json: not valid JSON"));
  Remove("config.json");
  EXPECT_THAT(Error(), HasSubstr("config.json"));
}

TEST_F(HfDirectoryTest, TruncatedWeightsAreAnError) {
  const std::string file = ReadFile(directory_.PathOf("model.safetensors"));
  for (const size_t size : {size_t{0}, size_t{5}, size_t{100}, file.size() / 2, file.size() - 1}) {
    Write("model.safetensors", file.substr(0, size));
    EXPECT_THAT(Error(), HasSubstr("model.safetensors")) << size << " bytes";
  }
}

TEST_F(HfDirectoryTest, GenerationConfigNamesEndsAndDefaults) {
  EXPECT_THAT(Load()->tokenizer.generation_eos_ids, ElementsAre(2)) << "from config.json";
  EXPECT_EQ(Load()->generation.temperature, 1);
  Write(
      "generation_config.json",
      R"({"eos_token_id": [3, 2], "temperature": 0.6, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.05, "do_sample": false})");
  const LoadedModel model = Load().value();
  EXPECT_THAT(model.tokenizer.generation_eos_ids, ElementsAre(3, 2));
  EXPECT_FLOAT_EQ(model.generation.temperature, 0.6f);
  EXPECT_FLOAT_EQ(model.generation.top_p, 0.9f);
  EXPECT_EQ(model.generation.top_k, 40);
  EXPECT_FLOAT_EQ(model.generation.repetition_penalty, 1.05f);
  EXPECT_FALSE(model.generation.do_sample);
  Write("generation_config.json", R"({"eos_token_id": 1})");
  EXPECT_THAT(Load()->tokenizer.generation_eos_ids, ElementsAre(1));
}

TEST_F(HfDirectoryTest, BadGenerationConfigIsAnError) {
  for (const char* text :
       {R"({"eos_token_id": 288})", R"({"eos_token_id": -1})", R"({"eos_token_id": "x"})", R"({"temperature": -1})",
        R"({"top_p": 2})", R"({"top_k": -1})", R"({"repetition_penalty": 0})", R"({"do_sample": 1})", "["}) {
    Write("generation_config.json", text);
    EXPECT_THAT(Error(), HasSubstr("generation_config.json")) << text;
  }
}

TEST_F(HfDirectoryTest, ChatTemplateComesFromEitherFile) {
  EXPECT_EQ(Load()->tokenizer.chat_template, "");
  Write("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(Load()->tokenizer.chat_template, "one");
  Write("chat_template.jinja", "two");
  EXPECT_EQ(Load()->tokenizer.chat_template, "two");
}

TEST_F(HfDirectoryTest, FingerprintSeesEveryFile) {
  const uint64_t first = Load()->fingerprint;
  EXPECT_EQ(Load()->fingerprint, first);
  Write("chat_template.jinja", "two");
  const uint64_t second = Load()->fingerprint;
  EXPECT_NE(second, first);
  SetConfig("rope_theta", 20000);
  EXPECT_NE(Load()->fingerprint, second);
}

TEST_F(HfDirectoryTest, NameIsTheDirectorys) {
  EXPECT_EQ(Load()->name, std::filesystem::path(directory_.path()).filename());
  EXPECT_EQ(LoadModel(directory_.path() + "/")->name, std::filesystem::path(directory_.path()).filename());
}

TEST(LoadModelTest, NamesAPathThatIsNoModel) {
  EXPECT_EQ(LoadModel("/no/such/model").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(LoadModel("/no/such/model").status().message()), HasSubstr("/no/such/model"));
  const TempDir directory;
  WriteFile(directory.PathOf("model.safetensors"), "x");
  EXPECT_THAT(std::string(LoadModel(directory.PathOf("model.safetensors")).status().message()),
              HasSubstr("give the directory that holds it"));
  WriteFile(directory.PathOf("notes.txt"), "some text");
  EXPECT_THAT(std::string(LoadModel(directory.PathOf("notes.txt")).status().message()), HasSubstr("does not begin with GGUF"));
  EXPECT_THAT(std::string(LoadModel("/dev/null").status().message()), HasSubstr("is not a regular file"));
  ASSERT_EQ(mkfifo(directory.PathOf("pipe").c_str(), 0600), 0);
  EXPECT_THAT(std::string(LoadModel(directory.PathOf("pipe")).status().message()), HasSubstr("is not a regular file"));
}

class RandomModelTest : public HfDirectoryTest {
 protected:
  RandomModelTest() {
    Remove("model.safetensors");
    Remove("tokenizer.json");
  }
  absl::StatusOr<LoadedModel> LoadRandom(uint64_t seed = 1) {
    return LoadModel(directory_.path(), {.format = LoadFormat::kRandom, .seed = seed});
  }
};

TEST_F(RandomModelTest, NeedsNothingButAConfig) {
  const LoadedModel model = LoadRandom().value();
  EXPECT_EQ(model.weights.layers.size(), model.spec.layers.size());
  EXPECT_EQ(model.weights.head.segments[0].dtype, kernels::DType::kBF16);
  const auto logits = berth::testing::PromptLogits(model.spec, model.weights, {1, 2, 3});
  EXPECT_EQ(logits, berth::testing::PromptLogits(model.spec, LoadRandom()->weights, {1, 2, 3}));
  EXPECT_NE(logits, berth::testing::PromptLogits(model.spec, LoadRandom(2)->weights, {1, 2, 3}));
  EXPECT_NE(LoadRandom(1)->fingerprint, LoadRandom(2)->fingerprint);
}

TEST_F(RandomModelTest, AModelWithoutATokenizerHasBytes) {
  const LoadedModel model = LoadRandom().value();
  const auto tokenizer = text::MakeTokenizer(model.tokenizer).value();
  EXPECT_EQ(tokenizer->size(), model.spec.vocab);
  EXPECT_THAT(tokenizer->Encode("hi \n\xC3\xA9", {}).value(), ElementsAre('h', 'i', ' ', '\n', 0xC3, 0xA9));
  EXPECT_EQ(tokenizer->Decode({'h', 'i', 260, 0xC3, 0xA9}, true), "hi <260>\u00e9");
  EXPECT_FALSE(model.tokenizer.chat_template.empty());
}

TEST_F(RandomModelTest, ItsOwnTokenizerIsKept) {
  berth::testing::WriteTinyModel("llama", directory_.path());
  EXPECT_TRUE(LoadRandom()->tokenizer.chat_template.empty());
}

TEST_F(RandomModelTest, WhatIsNoDirectoryOrTooSmallIsRefused) {
  Write("model.gguf", "GGUF");
  EXPECT_THAT(std::string(LoadModel(directory_.PathOf("model.gguf"), {.format = LoadFormat::kRandom}).status().message()),
              HasSubstr("random weights want a directory"));
  SetConfig("vocab_size", 100);
  EXPECT_THAT(std::string(LoadRandom().status().message()), HasSubstr("vocab_size"));
}

// With an uploader nothing is left of the files, and the numbers are the same.
TEST_F(HfDirectoryTest, AnUploaderTakesTheWeights) {
  const auto uploader = kernels::MakeCpuWeightUploader({.dtype = kernels::DType::kF32});
  const LoadedModel moved = LoadModel(directory_.path(), {.uploader = uploader.get()}).value(), mapped = Load().value();
  EXPECT_EQ(moved.memory.size(), 1u);
  EXPECT_EQ(moved.fingerprint, mapped.fingerprint);
  EXPECT_EQ(berth::testing::PromptLogits(moved.spec, moved.weights, {1, 2, 3}),
            berth::testing::PromptLogits(mapped.spec, mapped.weights, {1, 2, 3}));
}

}  // namespace
}  // namespace berth::loader
