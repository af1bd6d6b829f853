#include <filesystem>
#include <string>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/upload.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "worker/loader/convert.h"
#include "worker/loader/model_loader.h"
#include "worker/loader/workspace.h"

namespace berth::loader {
namespace {

using ::testing::HasSubstr;

absl::Status LoadOnDevice(const std::string& path) {
  auto uploader = kernels::MakeCudaWeightUploader({.threads = 3, .chunk_bytes = 20'000});
  return uploader.ok() ? LoadModel(path, {.uploader = uploader->get()}).status() : uploader.status();
}

TEST(CudaWorkspaceTest, OneWrongByteOfAnyTensorIsNamed) {
  if (const auto uploader = kernels::MakeCudaWeightUploader({}); !uploader.ok()) GTEST_SKIP() << uploader.status();
  berth::testing::TempDir directory;
  const std::string model = directory.PathOf("tiny"), workspace = directory.PathOf("workspace");
  std::filesystem::create_directory(model);
  berth::testing::WriteTinyModel("llama", model);
  ASSERT_TRUE(ConvertModel(model, {.destination = workspace, .dtype = kernels::DType::kBF16}).ok());
  ASSERT_EQ(LoadOnDevice(workspace), absl::OkStatus());
  const WorkspaceManifest manifest = ParseWorkspaceManifest(berth::testing::ReadFile(workspace + "/workspace.json")).value();
  const std::string weights = workspace + "/weights-0-of-1.bin", whole = berth::testing::ReadFile(weights);
  for (const WorkspaceTensor& tensor : manifest.tensors) {
    std::string damaged = whole;
    damaged[tensor.offset + tensor.bytes * 2 / 3] ^= 1;
    berth::testing::WriteFile(weights, damaged);
    const std::string error(LoadOnDevice(workspace).message());
    EXPECT_THAT(error, HasSubstr("weights-0-of-1.bin: tensor " + tensor.name + " has checksum "));
    EXPECT_THAT(error, HasSubstr(absl::StrFormat("want %016x", tensor.checksums[0])));
  }
}

}  // namespace
}  // namespace berth::loader
