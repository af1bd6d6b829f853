#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/decoder_runner.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "tests/worker/runtime/engine_runner.h"
#include "worker/loader/model_loader.h"
#include "worker/runtime/gpu.h"

// Every family's tiny model on a GPU against the golden logits that the CPU meets to 1e-4.

namespace berth::runtime {
namespace {

using berth::testing::GoldenPrompt;

struct CudaGoldenCase {
  std::string model;
  kernels::DType dtype;
};

class CudaGoldenTest : public ::testing::TestWithParam<CudaGoldenCase> {
 protected:
  void SetUp() override {
    if (const absl::Status usable = CheckGpu(0); !usable.ok()) GTEST_SKIP() << usable;
    const berth::testing::TempDir directory;
    berth::testing::WriteTinyModel(GetParam().model, directory.path());
    const auto uploader = MakeGpuUploader(options_);
    ASSERT_TRUE(uploader.ok()) << uploader.status();
    auto model =
        loader::LoadModel(directory.path(), {.accept = CheckGpuModel, .uploader = uploader->get(), .image_rows = true});
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }

  std::vector<int32_t> Greedy(const std::vector<int32_t>& prompt) {
    EngineRunner runner(MakeGpuExecutor({model_.spec, model_.weights, model_.spec.vocab}, options_), {.depth = 1});
    const engine::SequenceSpec spec{.id = 1,
                                    .tokens = prompt,
                                    .prompt_length = static_cast<int>(prompt.size()),
                                    .max_tokens = 24,
                                    .sampling = {.temperature = 0}};
    return runner.Run({spec}).at(1).tokens;
  }

  GpuOptions options_ = {.dtype = GetParam().dtype, .slots = 1, .max_step_tokens = 256, .kv_bytes = size_t{16} << 20};
  loader::LoadedModel model_;
};

// Root mean square of the differences at the stored positions, of the logits' deviation.
struct CudaGoldenError {
  double squares = 0, sum = 0, differences = 0, count = 0;

  void Add(const GoldenPrompt& prompt, const std::vector<std::vector<float>>& logits) {
    for (size_t i = 0; i < prompt.positions.size(); ++i) {
      for (size_t j = 0; j < prompt.logits[i].size(); ++j) {
        const double want = prompt.logits[i][j], difference = logits[prompt.positions[i]][j] - want;
        sum += want;
        squares += want * want;
        differences += difference * difference;
        ++count;
      }
    }
  }
  double Relative() const { return std::sqrt(differences / (squares - sum * sum / count)); }
};

TEST_P(CudaGoldenTest, LogitsAreTheReferences) {
  const auto& [name, dtype] = GetParam();
  for (const bool generic : {false, true}) {
    options_.generic_kernels = generic;
    absl::StatusOr<RunnerDevice> device = OpenGpu(model_.spec, options_);
    ASSERT_TRUE(device.ok()) << device.status();
    for (const int step_tokens : {0, 16, 1}) {
      CudaGoldenError error;
      for (const GoldenPrompt& prompt : berth::testing::TinyGolden(name)) {
        error.Add(prompt, berth::testing::PromptLogits(model_.spec, model_.weights, prompt.tokens, step_tokens, *device, dtype,
                                                       prompt.image_positions));
      }
      RecordProperty(absl::StrCat(generic ? "generic_" : "", "error_", step_tokens), absl::StrCat(error.Relative()));
      EXPECT_LT(error.Relative(), dtype == kernels::DType::kBF16 ? 0.1 : 0.02)
          << "in steps of " << step_tokens << (generic ? ", generic kernels" : "");
    }
  }
}

TEST_P(CudaGoldenTest, BatchInvariantLogitsDependOnNoStep) {
  options_.batch_invariant = true;
  absl::StatusOr<RunnerDevice> device = OpenGpu(model_.spec, options_);
  ASSERT_TRUE(device.ok()) << device.status();
  for (const GoldenPrompt& prompt : berth::testing::TinyGolden(GetParam().model)) {
    const auto logits = [&](int step_tokens) {
      return berth::testing::PromptLogits(model_.spec, model_.weights, prompt.tokens, step_tokens, *device, GetParam().dtype,
                                          prompt.image_positions);
    };
    const auto whole = logits(0);
    for (const int step_tokens : {16, 7, 1}) EXPECT_EQ(logits(step_tokens), whole) << "in steps of " << step_tokens;
  }
}

TEST_P(CudaGoldenTest, RecordedStepsGiveTheSameTokens) {
  const std::vector<int32_t> prompt = berth::testing::TinyGolden(GetParam().model).front().tokens;
  const std::vector<int32_t> recorded = Greedy(prompt);
  options_.recordings = false;
  EXPECT_EQ(recorded, Greedy(prompt));
  EXPECT_FALSE(recorded.empty());
}

std::vector<CudaGoldenCase> CudaGoldenCases() {
  std::vector<CudaGoldenCase> cases;
  for (const std::string& model : berth::testing::TinyModelNames()) {
    for (const kernels::DType dtype : {kernels::DType::kBF16, kernels::DType::kF16}) cases.push_back({model, dtype});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Families, CudaGoldenTest, ::testing::ValuesIn(CudaGoldenCases()), [](const auto& info) {
  return absl::StrCat(info.param.model, "_", std::string(kernels::Info(info.param.dtype).name));
});

}  // namespace
}  // namespace berth::runtime
