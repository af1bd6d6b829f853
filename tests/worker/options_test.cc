#include "worker/options.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/backend.h"
#include "worker/runtime/gpu.h"

namespace berth::worker {
namespace {

using kernels::DType;
using ::testing::HasSubstr;

std::string Refusal(const WorkerOptions& options) {
  const absl::Status status = options.Validate();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(WorkerOptionsTest, ChoicesAreChecked) {
  EXPECT_TRUE(WorkerOptions{.model = "m"}.Validate().ok());
  EXPECT_TRUE((WorkerOptions{.model = "m", .load_format = "random", .device = "cuda", .dtype = "f16", .kernel_set = "generic"}
                   .Validate()
                   .ok()));
  EXPECT_THAT(Refusal({.model = "m", .device = "gpu"}), HasSubstr("--device is gpu, want cpu, cuda or auto"));
  EXPECT_THAT(Refusal({.model = "m", .dtype = "f32"}), HasSubstr("--dtype is f32, want auto or bf16 or f16"));
  EXPECT_THAT(Refusal({.model = "m", .kernel_set = "fast"}), HasSubstr("--kernel-set is fast, want auto or generic"));
  EXPECT_THAT(Refusal({.model = "m", .load_format = "gguf"}), HasSubstr("--load-format is gguf, want auto or random"));
  EXPECT_THAT(Refusal({.model = "m", .depth = -1}), HasSubstr("--depth is -1"));
}

TEST(WorkerOptionsTest, DevicesAreNumbered) {
  EXPECT_EQ(ParseDevice("cuda:3")->index, 3);
  EXPECT_TRUE(ParseDevice("cuda:3")->cuda);
  EXPECT_FALSE(ParseDevice("auto:1")->cuda);
  EXPECT_EQ(ParseDevice("auto:1")->index, 1);
  EXPECT_TRUE(ParseDevice("cpu")->cpu);
  for (const char* wrong : {"", "cuda:", "cuda:-1", "cuda:x", "cuda:1:2", "cpu:0", "gpu:0", "cuda:99999999999"}) {
    EXPECT_THAT(Refusal({.model = "m", .device = wrong}), HasSubstr(absl::StrCat("--device is ", wrong, ", want")));
  }
}

TEST(BackendTest, AGpuThatWasAskedForMustBeThere) {
  if (runtime::CheckGpu(0).ok()) GTEST_SKIP() << "there is one";
  const absl::Status status = MakeBackend({.model = "m", .device = "cuda"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

TEST(BackendTest, WithoutAGpuAutoTakesTheCpu) {
  if (runtime::CheckGpu(0).ok()) GTEST_SKIP() << "there is one";
  EXPECT_EQ(MakeBackend({.model = "/nowhere"}).status().code(), absl::StatusCode::kNotFound);
}

TEST(BackendTest, ADtypeThatWasAskedForWins) {
  const auto chosen = [](const WorkerOptions& options, DType preferred) { return MakeGpuOptions(options, 0, preferred).dtype; };
  for (const DType preferred : {DType::kBF16, DType::kF16}) {
    EXPECT_EQ(chosen({}, preferred), preferred);
    EXPECT_EQ(chosen({.dtype = "auto"}, preferred), preferred);
    EXPECT_EQ(chosen({.dtype = "bf16"}, preferred), DType::kBF16);
    EXPECT_EQ(chosen({.dtype = "f16"}, preferred), DType::kF16);
  }
}

TEST(GpuOptionsTest, EachOptionIsChecked) {
  using runtime::GpuOptions;
  EXPECT_TRUE(GpuOptions{}.Validate().ok());
  EXPECT_FALSE(GpuOptions{.device = -1}.Validate().ok());
  EXPECT_FALSE(GpuOptions{.dtype = kernels::DType::kF32}.Validate().ok());
  EXPECT_FALSE(GpuOptions{.slots = 0}.Validate().ok());
  EXPECT_FALSE((GpuOptions{.slots = 64, .max_step_tokens = 63}.Validate().ok()));
  EXPECT_FALSE(GpuOptions{.max_step_tokens = 65536}.Validate().ok());
  EXPECT_FALSE(GpuOptions{.session_len = -1}.Validate().ok());
  EXPECT_FALSE(GpuOptions{.kv_share = 1}.Validate().ok());
}

}  // namespace
}  // namespace berth::worker
