#include <filesystem>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/support/tiny_gguf.h"
#include "tests/support/tiny_models.h"
#include "worker/loader/convert.h"
#include "worker/loader/gguf_architectures.h"
#include "worker/loader/model_files.h"

namespace berth::loader {
namespace {

using berth::testing::TempDir;
using kernels::DType;

// Of a file with such matrices, and an f32 norm as all have.
DType Preferred(const std::string& architecture, std::initializer_list<DType> matrices) {
  GgufMetadata metadata;
  metadata.Add("general.architecture", architecture);
  CheckpointIndex tensors = {{.name = "norm", .dtype = DType::kF32, .shape = {64}}};
  for (const DType dtype : matrices) {
    tensors.push_back({.name = absl::StrCat("matrix ", tensors.size()), .dtype = dtype, .shape = {64, 64}});
  }
  return PreferredDType(**FindGgufArchitecture(metadata), tensors);
}

TEST(PreferredDTypeTest, BlocksAndHalvesOfGgufRunInF16) {
  EXPECT_EQ(Preferred("llama", {DType::kQ4_1, DType::kQ6_K, DType::kIQ4_NL}), DType::kF16);
  EXPECT_EQ(Preferred("qwen2", {DType::kF16, DType::kQ8_0}), DType::kF16);
}

TEST(PreferredDTypeTest, AMatrixThatF16MayNotHoldKeepsBf16) {
  EXPECT_EQ(Preferred("llama", {DType::kBF16, DType::kBF16}), DType::kBF16);
  EXPECT_EQ(Preferred("llama", {DType::kQ4_1, DType::kBF16}), DType::kBF16);
  EXPECT_EQ(Preferred("qwen3moe", {DType::kQ4_K, DType::kF32}), DType::kBF16) << "a router";
}

TEST(PreferredDTypeTest, ActivationsThatLeaveF16KeepBf16) {
  for (const char* architecture : {"gemma", "gemma2", "gemma3", "glm4"}) {
    EXPECT_EQ(Preferred(architecture, {DType::kQ4_1}), DType::kBF16) << architecture;
  }
}

DType PreferredOf(const std::string& path, LoadFormat format = LoadFormat::kCheckpoint) {
  const absl::StatusOr<ModelFiles> files = OpenModel(path, format);
  if (!files.ok()) ADD_FAILURE() << files.status();
  return files.ok() ? files->preferred_dtype : DType::kF32;
}

TEST(PreferredDTypeTest, AHuggingFaceDirectoryRunsInBf16) {
  const TempDir directory;
  berth::testing::WriteTinyModel("llama", directory.path());
  EXPECT_EQ(PreferredOf(directory.path()), DType::kBF16);
}

TEST(PreferredDTypeTest, AWorkspaceRunsAsTheGgufFileThatItWasMadeOf) {
  const TempDir directory;
  const std::string gguf = directory.PathOf("tiny.gguf"), workspace = directory.PathOf("workspace");
  berth::testing::WriteFile(gguf, berth::testing::MakeTinyGguf(DType::kQ4_1).writer.File());
  EXPECT_EQ(PreferredOf(gguf), DType::kF16);
  ASSERT_TRUE(ConvertModel(gguf, {.destination = workspace}).ok());
  EXPECT_EQ(PreferredOf(workspace), DType::kF16);
  EXPECT_EQ(PreferredOf(workspace, LoadFormat::kRandom), DType::kBF16) << "of no checkpoint";
  std::filesystem::remove_all(workspace);
  ASSERT_TRUE(ConvertModel(gguf, {.destination = workspace, .dtype = DType::kBF16}).ok());
  EXPECT_EQ(PreferredOf(workspace), DType::kBF16) << "its matrices are bf16 now";
}

}  // namespace
}  // namespace berth::loader
