#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/dequantize.h"
#include "tests/support/decoder_runner.h"
#include "tests/support/files.h"
#include "tests/support/gguf_converter.h"
#include "tests/support/tiny_gguf.h"
#include "tests/support/tiny_models.h"
#include "worker/loader/gguf_latent.h"
#include "worker/loader/model_loader.h"

namespace berth::loader {
namespace {

using berth::testing::LargestDifference;
using berth::testing::MakeTinyGguf;
using berth::testing::PromptLogits;
using berth::testing::StoredTensor;
using berth::testing::TempDir;
using berth::testing::TinyGguf;
using berth::testing::WriteFile;
using kernels::DType;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<LoadedModel> Load(const std::string& bytes) {
  const TempDir directory;
  WriteFile(directory.PathOf("model.gguf"), bytes);
  return LoadModel(directory.PathOf("model.gguf"));
}

std::string Error(const std::string& bytes) {
  const absl::StatusOr<LoadedModel> model = Load(bytes);
  return model.ok() ? "no error" : std::string(model.status().message());
}

class QuantisedModelTest : public ::testing::TestWithParam<DType> {};

// Rows that GGUF reordered are put back as quantised blocks, so the logits equal those of the dequantised model.
TEST_P(QuantisedModelTest, LogitsEqualTheDequantisedModel) {
  const TinyGguf tiny = MakeTinyGguf(GetParam());
  const TempDir directory;
  berth::testing::WriteTinyModel("llama", tiny.checkpoint, directory.path());
  const absl::StatusOr<LoadedModel> reference = LoadModel(directory.path());
  ASSERT_TRUE(reference.ok()) << reference.status();
  const absl::StatusOr<LoadedModel> quantised = Load(tiny.writer.File());
  ASSERT_TRUE(quantised.ok()) << quantised.status();
  EXPECT_EQ(quantised->weights.layers[0].qkv.segments[0].dtype, GetParam());

  std::vector<int32_t> prompt;
  for (int i = 0; i < 20; ++i) prompt.push_back(i * i % 288);
  EXPECT_EQ(LargestDifference(PromptLogits(quantised->spec, quantised->weights, prompt),
                              PromptLogits(reference->spec, reference->weights, prompt)),
            0);
}

INSTANTIATE_TEST_SUITE_P(Types, QuantisedModelTest,
                         ::testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                                           DType::kIQ4_NL),
                         [](const auto& info) { return std::string(kernels::Info(info.param).name); });

class GgufFamilyTest : public ::testing::TestWithParam<std::string> {};

// What a converter did to names, orders, norms and experts is undone: the logits are those of the checkpoint it came from.
TEST_P(GgufFamilyTest, LogitsEqualTheReference) {
  absl::StatusOr<LoadedModel> model = Load(berth::testing::ToGguf(GetParam()));
  ASSERT_TRUE(model.ok()) << model.status();
  if (GetParam() == "gemma2" || GetParam() == "gemma3") {  // the format has no key for this one's scale
    for (model::LayerSpec& layer : model->spec.layers) {
      EXPECT_FLOAT_EQ(layer.attention.scale, 1 / std::sqrt(32.f));
      layer.attention.scale = 1 / std::sqrt(24.f);
    }
  }
  if (GetParam() == "deepseek_v2_lite") {  // nor for yarn's two magnitudes when they differ
    for (model::LayerSpec& layer : model->spec.layers) {
      EXPECT_FLOAT_EQ(layer.attention.rope.attention_scale, 1);
      layer.attention.rope.attention_scale = (0.1f * std::log(4.f) + 1) / (0.0707f * std::log(4.f) + 1);
    }
  }
  if (GetParam() == "qwen3_moe") {
    EXPECT_TRUE(model->spec.layers[0].attention.qk_norm);
    EXPECT_TRUE(model->spec.layers[0].moe.routing.renormalize);
    return;
  }
  for (const berth::testing::GoldenPrompt& prompt : berth::testing::TinyGolden(GetParam())) {
    const std::vector<std::vector<float>> all = PromptLogits(model->spec, model->weights, prompt.tokens);
    std::vector<std::vector<float>> logits;
    for (const int position : prompt.positions) logits.push_back(all[position]);
    EXPECT_LT(LargestDifference(logits, prompt.logits), 3e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GgufFamilyTest, ::testing::ValuesIn(berth::testing::GgufTwinNames()),
                         [](const auto& info) { return info.param; });

TEST(GgufModelTest, KeysAndValuesOfLatentsMayBeTwoTensors) {
  for (const std::string name : {"deepseek_v2", "deepseek_v3"}) {
    const absl::StatusOr<LoadedModel> joined = Load(berth::testing::ToGguf(name));
    const absl::StatusOr<LoadedModel> split = Load(berth::testing::ToGguf(name, /*split_latent=*/true));
    ASSERT_TRUE(split.ok()) << split.status();
    std::vector<int32_t> prompt(20);
    std::iota(prompt.begin(), prompt.end(), 100);
    EXPECT_EQ(LargestDifference(PromptLogits(split->spec, split->weights, prompt),
                                PromptLogits(joined->spec, joined->weights, prompt)),
              0);
  }
}

// A layer's two tensors in that type, of two heads: key dimensions 32, value dimensions 3, rank 64.
Checkpoint SplitLatents(DType keys, DType values, std::vector<StoredTensor>& stored) {
  stored = {berth::testing::RandomMatrix("blk.0.attn_k_b.weight", keys, 2 * 64, 32),
            berth::testing::RandomMatrix("blk.0.attn_v_b.weight", values, 2 * 3, 64)};
  Checkpoint checkpoint;
  for (const StoredTensor& tensor : stored) {
    checkpoint.tensors.push_back(
        {.name = tensor.name,
         .dtype = tensor.dtype,
         .shape = tensor.shape,
         .data = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(tensor.bytes.data()), tensor.bytes.size())});
  }
  return checkpoint;
}

std::vector<float> Floats(DType dtype, const std::byte* data, int64_t count) {
  std::vector<float> values(count);
  kernels::DequantizeRow(dtype, data, values.data(), count);
  return values;
}

TEST(GgufModelTest, QuantisedKeysOfLatentsAreTransposedInHalves) {
  model::DecoderSpec spec;
  spec.layers.emplace_back().attention = {.q_heads = 2, .latent = {.rank = 64, .key_dim = 32, .value_dim = 3}};
  std::vector<StoredTensor> stored;
  Checkpoint checkpoint = SplitLatents(DType::kQ8_0, DType::kQ4_0, stored);
  const std::vector<float> keys = Floats(DType::kQ8_0, checkpoint.tensors[0].data.data(), 2 * 64 * 32);
  const std::vector<float> values = Floats(DType::kQ4_0, checkpoint.tensors[1].data.data(), 2 * 3 * 64);
  ASSERT_TRUE(JoinLatentUp(spec, checkpoint).ok()) << JoinLatentUp(spec, checkpoint);
  ASSERT_EQ(checkpoint.tensors.size(), 1u);
  const TensorInfo& joined = checkpoint.tensors[0];
  EXPECT_EQ(joined.name, "blk.0.attn_kv_b.weight");
  EXPECT_EQ(joined.dtype, DType::kF16);
  const std::vector<float> rows = Floats(joined.dtype, joined.data.data(), 2 * 35 * 64);
  for (int head = 0; head < 2; ++head) {
    for (int c = 0; c < 64; ++c) {
      for (int r = 0; r < 32; ++r) EXPECT_NEAR(rows[(head * 35 + r) * 64 + c], keys[(head * 64 + c) * 32 + r], 4.0 / 2048);
      for (int r = 0; r < 3; ++r) EXPECT_NEAR(rows[(head * 35 + 32 + r) * 64 + c], values[(head * 3 + r) * 64 + c], 4.0 / 2048);
    }
  }

  checkpoint = SplitLatents(DType::kQ8_0, DType::kQ8_0, stored);
  checkpoint.tensors[1].shape = {5, 64};
  EXPECT_EQ(JoinLatentUp(spec, checkpoint).message(), "tensor blk.0.attn_v_b.weight has shape [5, 64], want [6, 64]");
  checkpoint.tensors.pop_back();
  EXPECT_EQ(JoinLatentUp(spec, checkpoint).message(), "tensor blk.0.attn_v_b.weight is missing");
}

TEST(GgufModelTest, TiesTheHeadWhenThereIsNoOutputTensor) {
  const absl::StatusOr<LoadedModel> untied = Load(MakeTinyGguf(DType::kQ8_0).writer.File());
  EXPECT_FALSE(untied->spec.tied_head);
  EXPECT_NE(untied->weights.head.segments[0].data, untied->weights.embed.segments[0].data);
  const absl::StatusOr<LoadedModel> tied = Load(MakeTinyGguf(DType::kQ8_0, /*tied=*/true).writer.File());
  EXPECT_TRUE(tied->spec.tied_head);
  EXPECT_EQ(tied->weights.head.segments[0].data, tied->weights.embed.segments[0].data);
}

TEST(GgufModelTest, FingerprintSeesTensorsAndMetadata) {
  TinyGguf tiny = MakeTinyGguf(DType::kQ8_0);
  const std::string file = tiny.writer.File();
  std::string other_weight = file;
  other_weight.back() ^= 1;
  tiny.writer.Set("general.name", std::string("another"));
  EXPECT_EQ(Load(file)->fingerprint, Load(file)->fingerprint);
  EXPECT_NE(Load(file)->fingerprint, Load(other_weight)->fingerprint);
  EXPECT_NE(Load(file)->fingerprint, Load(tiny.writer.File())->fingerprint);
}

TEST(GgufModelTest, MoreTokensThanTheHeadHasRowsAreRefused) {
  berth::testing::GgufWriter writer;
  writer.Set("general.architecture", std::string("llama"));
  const std::pair<const char*, int64_t> sizes[] = {{"block_count", 1},
                                                   {"context_length", 64},
                                                   {"embedding_length", 64},
                                                   {"feed_forward_length", 96},
                                                   {"attention.head_count", 4}};
  for (const auto& [key, value] : sizes) writer.Set(absl::StrCat("llama.", key), value);
  writer.Set("llama.attention.layer_norm_rms_epsilon", 1e-5);
  std::vector<std::string> tokens;
  for (int i = 0; i < 9; ++i) tokens.push_back(absl::StrCat("t", i));
  writer.Set("tokenizer.ggml.model", std::string("llama"));
  writer.Set("tokenizer.ggml.tokens", tokens);
  writer.Set("tokenizer.ggml.scores", std::vector<double>(tokens.size(), 0.0));
  writer.Add(berth::testing::StoreFloats("token_embd.weight", {8, 64}, std::vector<float>(8 * 64)));
  EXPECT_THAT(Error(writer.File()),
              AllOf(HasSubstr("model.gguf: "), HasSubstr("the tokenizer's token \"t8\" has id 8, but vocab_size is 8")));
}

TEST(GgufModelTest, WindowComesFromTheMetadata) {
  TinyGguf tiny = MakeTinyGguf(DType::kQ8_0);
  tiny.writer.Set("llama.attention.sliding_window", int64_t{24});
  EXPECT_EQ(Load(tiny.writer.File())->spec.layers[2].attention.window, 24);
}

class SplitGgufTest : public ::testing::Test {
 protected:
  static constexpr const char* kNames[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};

  void Write(const std::vector<std::string>& files) {
    for (size_t i = 0; i < files.size(); ++i) berth::testing::WriteFile(directory_.PathOf(kNames[i]), files[i]);
  }
  std::string Error(const char* name) {
    const absl::StatusOr<LoadedModel> model = LoadModel(directory_.PathOf(name));
    return model.ok() ? "no error" : std::string(model.status().message());
  }

  const TinyGguf tiny_ = MakeTinyGguf(DType::kQ8_0);
  TempDir directory_;
};

TEST_F(SplitGgufTest, IsTheSameModelAsOneFile) {
  Write(tiny_.writer.Split(3));
  const absl::StatusOr<LoadedModel> split = LoadModel(directory_.PathOf(kNames[0]));
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->name, "m");
  const absl::StatusOr<LoadedModel> whole = Load(tiny_.writer.File());
  const std::vector<int32_t> prompt = {1, 2, 3};
  EXPECT_EQ(PromptLogits(split->spec, split->weights, prompt), PromptLogits(whole->spec, whole->weights, prompt));
}

TEST_F(SplitGgufTest, NamesThePartThatIsWrong) {
  std::vector<std::string> files = tiny_.writer.Split(3);
  Write(files);
  EXPECT_THAT(Error(kNames[1]), AllOf(HasSubstr(kNames[1]), HasSubstr("-00001-of-00003.gguf")));
  std::swap(files[1], files[2]);
  Write(files);
  EXPECT_THAT(Error(kNames[0]), AllOf(HasSubstr(kNames[1]), HasSubstr("split.no is 2: want 1")));
  std::swap(files[1], files[2]);
  files[2] = tiny_.writer.Split(4)[2];
  Write(files);
  EXPECT_THAT(Error(kNames[0]), AllOf(HasSubstr(kNames[2]), HasSubstr("split.count is 4: want 3")));
  std::filesystem::remove(directory_.PathOf(kNames[2]));
  EXPECT_THAT(Error(kNames[0]), HasSubstr(kNames[2]));
}

TEST_F(SplitGgufTest, NamesThePartOfATensorThatHasNoPlace) {
  berth::testing::GgufWriter writer = tiny_.writer;
  writer.Add(berth::testing::RandomMatrix("more.weight", DType::kQ8_0, 2, 32));  // the last one
  Write(writer.Split(3));
  EXPECT_THAT(Error(kNames[0]), HasSubstr(std::string(kNames[2]) + ": tensor more.weight [2, 32] has no place"));
}

// The divisors of Llama 3.1 (factor 8), as converters compute them.
std::vector<float> Llama3Divisors(double theta, int head_dim) {
  std::vector<float> divisors;
  for (int i = 0; i < head_dim; i += 2) {
    const double wavelength = 2 * M_PI * std::pow(theta, static_cast<double>(i) / head_dim);
    const double blend = (8192 / wavelength - 1) / 3;
    divisors.push_back(static_cast<float>(wavelength < 2048 ? 1 : wavelength > 8192 ? 8 : 1 / ((1 - blend) / 8 + blend)));
  }
  return divisors;
}

TEST(GgufModelTest, RopeDivisorsBecomeLlama3Scaling) {
  TinyGguf tiny = MakeTinyGguf(DType::kQ8_0);
  tiny.writer.Add(berth::testing::StoreFloats("rope_freqs.weight", {8}, Llama3Divisors(10000, 16)));
  const absl::StatusOr<LoadedModel> model = Load(tiny.writer.File());
  ASSERT_TRUE(model.ok()) << model.status();
  const model::RopeSpec& rope = model->spec.layers[0].attention.rope;
  EXPECT_EQ(rope.scaling, model::RopeScaling::kLlama3);
  EXPECT_EQ(rope.factor, 8);
  EXPECT_EQ(rope.high_frequency_factor, 4);
  EXPECT_EQ(rope.original_max_position, 8192);
}

TEST(GgufModelTest, OtherRopeDivisorsAreErrors) {
  std::vector<float> divisors = Llama3Divisors(10000, 16);
  divisors[5] *= 1.5f;
  for (const std::vector<float>& bad :
       {divisors, Llama3Divisors(500000, 16), {0, 0, 0, 0, 0, 0, 0, 0}, {1, NAN, 1, 1, 1, 1, 1, 8}}) {
    TinyGguf tiny = MakeTinyGguf(DType::kQ8_0);
    tiny.writer.Add(berth::testing::StoreFloats("rope_freqs.weight", {8}, bad));
    EXPECT_THAT(Error(tiny.writer.File()), HasSubstr("rope_freqs.weight"));
  }
  TinyGguf tiny = MakeTinyGguf(DType::kQ8_0);
  tiny.writer.Add(berth::testing::StoreFloats("rope_freqs.weight", {0}, {}));
  EXPECT_THAT(Error(tiny.writer.File()), HasSubstr("rope_freqs.weight has shape [0]"));
}

struct BadKey {
  const char* key;
  GgufMetadata::Value value;
  const char* text;
};

TEST(GgufModelTest, KeysThatNobodyUnderstandsAreErrors) {
  const BadKey cases[] = {
      {"split.count", int64_t{2}, "2"},
      {"llama.nextn_predict_layers", int64_t{1}, "1"},
      {"llama.rope.scaling.type", std::string("spiral"), "\"spiral\""},
      {"llama.attention.value_length", int64_t{8}, "8"},
      {"llama.attention.sliding_window", std::vector<int64_t>{1, 2}, "an array of 2 integers"},
      {"tokenizer.ggml.pre", int64_t{1}, "1"},
      {"tokenizer.ggml.unknown_token_id", int64_t{-1}, "-1"},
      {"tokenizer.ggml.merges", std::vector<int64_t>{1}, "an array of 1 integers"},
      {"tokenizer.ggml.add_bos_token", std::string("yes"), "\"yes\""},
  };
  for (const BadKey& bad : cases) {
    TinyGguf tiny = MakeTinyGguf(DType::kQ8_0);
    tiny.writer.Set(bad.key, bad.value);
    std::string field = bad.key;
    if (field == "llama.rope.scaling.type") field = "rope_scaling.rope_type";
    EXPECT_THAT(Error(tiny.writer.File()), AllOf(HasSubstr("model.gguf"), HasSubstr(field), HasSubstr(bad.text)));
  }
}

TEST(GgufModelTest, BiasesFollowFromTheFirstLayersTensors) {
  TinyGguf tiny = MakeTinyGguf(DType::kQ8_0);
  std::vector<float> q_bias(64);
  for (int i = 0; i < 64; ++i) q_bias[i] = static_cast<float>(i);
  for (const std::string layer : {"blk.0.", "blk.1.", "blk.2."}) {
    tiny.writer.Add(berth::testing::StoreFloats(layer + "attn_q.bias", {64}, q_bias));
    tiny.writer.Add(berth::testing::StoreFloats(layer + "attn_k.bias", {32}, std::vector<float>(32)));
    tiny.writer.Add(berth::testing::StoreFloats(layer + "attn_v.bias", {32}, std::vector<float>(32)));
    tiny.writer.Add(berth::testing::StoreFloats(layer + "attn_output.bias", {64}, std::vector<float>(64)));
  }
  const absl::StatusOr<LoadedModel> model = Load(tiny.writer.File());
  ASSERT_TRUE(model.ok()) << model.status();
  const kernels::Tensor& bias = model->weights.layers[2].qkv_bias;
  ASSERT_EQ(bias.dim(0), 64 + 2 * 32);
  EXPECT_EQ(bias.data<float>()[16 + 1], 16 + 2) << "the rows of a bias are reordered like those of its matrix";
  EXPECT_EQ(bias.data<float>()[16 + 8], 16 + 1);
}

TEST(GgufModelTest, ArchitectureAndMissingKeysAreNamed) {
  berth::testing::GgufWriter writer;
  writer.Set("general.architecture", std::string("gpt2"));
  EXPECT_EQ(Load(writer.File()).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Error(writer.File()), HasSubstr("general.architecture is \"gpt2\""));
  EXPECT_THAT(Error(berth::testing::GgufWriter().File()), HasSubstr("general.architecture is absent"));
  berth::testing::GgufWriter empty;
  empty.Set("general.architecture", std::string("llama"));
  EXPECT_THAT(Error(empty.File()), HasSubstr("tensor token_embd.weight is missing"));
}

TEST(GgufModelTest, TruncatedFilesAreErrors) {
  const std::string file = MakeTinyGguf(DType::kQ4_1).writer.File();
  for (size_t size = 0; size + 32 < file.size(); size += 997) {
    EXPECT_THAT(Error(file.substr(0, size)), HasSubstr("model.gguf")) << size << " bytes";
  }
}

// Whatever the header says after damage: an error or a model, never a crash.
TEST(GgufModelTest, FlippedBitsNeverCrash) {
  const std::string file = MakeTinyGguf(DType::kQ4_1).writer.File();
  const size_t header = file.find("token_embd") + 2000;
  std::mt19937 random(7);
  for (int i = 0; i < 500; ++i) {
    std::string damaged = file;
    for (unsigned flips = 1 + random() % 2; flips > 0; --flips) damaged[random() % header] ^= 1 << random() % 8;
    (void)Load(damaged);
  }
}

}  // namespace
}  // namespace berth::loader
