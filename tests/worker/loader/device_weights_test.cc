#include "worker/loader/device_weights.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/upload.h"
#include "tests/support/decoder_runner.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "worker/loader/model_loader.h"
#include "worker/loader/slot_members.h"

namespace berth::loader {
namespace {

using kernels::DType;
using kernels::LinearWeight;
using model::Slot;

std::vector<float> Values(const LinearWeight& weight) {
  std::vector<float> values;
  for (const auto& segment : weight.segments) {
    const size_t begin = values.size();
    values.resize(begin + segment.rows * weight.k);
    kernels::DequantizeRow(segment.dtype, segment.data, values.data() + begin, segment.rows * weight.k);
  }
  return values;
}
std::vector<float> Values(const kernels::Tensor& vector) {
  return {vector.data<float>(), vector.data<float>() + vector.dim(0)};
}

float RoundBf16(float value) { return kernels::cpu::FromBf16(kernels::cpu::ToBf16(value)); }

class DeviceWeightsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    testing::WriteTinyModel(GetParam(), directory_.path());
    model_ = LoadModel(directory_.path()).value();
  }

  berth::testing::TempDir directory_;
  LoadedModel model_;
};

TEST_P(DeviceWeightsTest, EverySlotArrivesInOneSegment) {
  const auto uploader = kernels::MakeCpuWeightUploader({.dtype = DType::kBF16, .threads = 2});
  const auto another = kernels::MakeCpuWeightUploader({.dtype = DType::kBF16, .threads = 2});
  MaterializedWeights copy = UploadWeights(model_.spec, model_.weights, *uploader).value(),
                      for_images =
                          UploadWeights(model_.spec, model_.weights, *another, /*progress=*/nullptr, /*image_rows=*/true)
                              .value();
  int slots = 0;
  const absl::Status status =
      ForEachSlot(model_.spec, [&](Slot slot, int layer, const model::SlotShape& shape) -> absl::Status {
        SCOPED_TRACE(std::string(model::Info(slot).name) + " of layer " + std::to_string(layer));
        ++slots;
        const LinearWeight* matrix = MatrixMember(copy.weights, slot, layer);
        if (model::Info(slot).adapter) {
          EXPECT_TRUE(matrix->empty());
          matrix = MatrixMember(for_images.weights, slot, layer);
        }
        if (matrix == nullptr) {
          EXPECT_EQ(Values(VectorMember(copy.weights, slot, layer)), Values(VectorMember(model_.weights, slot, layer)));
          EXPECT_NE(VectorMember(copy.weights, slot, layer).raw(), VectorMember(model_.weights, slot, layer).raw());
          return absl::OkStatus();
        }
        EXPECT_EQ(matrix->segments.size(), 1u);
        EXPECT_EQ(matrix->segments[0].dtype, DType::kBF16);
        EXPECT_EQ(matrix->n(), shape.rows());
        std::vector<float> expected = Values(*MatrixMember(model_.weights, slot, layer));
        for (float& value : expected) value = RoundBf16(value);
        EXPECT_EQ(Values(*matrix), expected);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_GT(slots, 20);
  EXPECT_EQ(model_.spec.tied_head, copy.weights.head.segments[0].data == copy.weights.embed.segments[0].data);
}

TEST_P(DeviceWeightsTest, TheCopyComputesWhatTheOriginalDoes) {
  const auto uploader = kernels::MakeCpuWeightUploader({.dtype = DType::kF32});
  const MaterializedWeights copy = UploadWeights(model_.spec, model_.weights, *uploader).value();
  const std::vector<int32_t> tokens = {1, 7, 19, 4};
  const auto expected = testing::PromptLogits(model_.spec, model_.weights, tokens);
  model_ = {.spec = model_.spec};  // the original may go
  EXPECT_EQ(testing::PromptLogits(model_.spec, copy.weights, tokens), expected);
}

INSTANTIATE_TEST_SUITE_P(Models, DeviceWeightsTest, ::testing::ValuesIn(testing::TinyModelNames()),
                         [](const auto& info) { return info.param; });

// Whichever way weights are brought, their progress rises and ends with all of them. Mapped ones are there at once.
TEST_P(DeviceWeightsTest, ProgressReachesTheWhole) {
  if (GetParam() == "xcomposer2") GTEST_SKIP() << "no device takes its adapters";
  const auto uploader = kernels::MakeCpuWeightUploader({.dtype = DType::kBF16});
  const LoadOptions ways[] = {{.format = LoadFormat::kRandom}, {.uploader = uploader.get()}};
  std::vector<int64_t> totals;
  for (LoadOptions options : ways) {
    int64_t last = 0, total = 0;
    options.progress = [&](int64_t done, int64_t all) {
      EXPECT_GT(done, last);
      last = done;
      total = all;
    };
    ASSERT_TRUE(LoadModel(directory_.path(), options).ok());
    EXPECT_EQ(last, total);
    EXPECT_GT(total, 1000);
    totals.push_back(total);
  }
  EXPECT_THAT(totals, ::testing::Each(totals[0]));
  ASSERT_TRUE(
      LoadModel(directory_.path(), {.progress = [](int64_t, int64_t) { ADD_FAILURE() << "said of mapped ones"; }}).ok());
}

class RandomWeightsTest : public ::testing::Test {
 protected:
  MaterializedWeights Make(uint64_t seed, DType dtype = DType::kF32, int threads = 1) {
    const auto uploader = kernels::MakeCpuWeightUploader({.dtype = dtype, .threads = threads});
    return RandomWeights(spec_, seed, *uploader).value();
  }

  static model::DecoderSpec Spec(const std::string& name) {
    berth::testing::TempDir directory;
    testing::WriteTinyModel(name, directory.path());
    return LoadModel(directory.path()).value().spec;
  }

  const model::DecoderSpec spec_ = Spec("qwen2");
};

TEST_F(RandomWeightsTest, DeviationIsTwoHundredthsAndMeanZero) {
  const MaterializedWeights model = Make(1);
  double sum = 0, squares = 0, fourth = 0;
  const std::vector<float> values = Values(model.weights.embed);
  for (const float value : values) {
    sum += value;
    squares += value * value;
    fourth += std::pow(value, 4);
  }
  const double n = static_cast<double>(values.size()), variance = squares / n;
  EXPECT_NEAR(sum / n, 0, 4 * 0.02 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(variance), 0.02, 4 * 0.02 / std::sqrt(2 * n));
  EXPECT_NEAR(fourth / n / (variance * variance), 3, 0.2);
}

TEST_F(RandomWeightsTest, EveryMatrixIsItsOwnAndEverySeed) {
  const MaterializedWeights a = Make(1), b = Make(1, DType::kF32, 3), c = Make(2);
  EXPECT_EQ(Values(a.weights.layers[1].qkv), Values(b.weights.layers[1].qkv));
  EXPECT_NE(Values(a.weights.layers[1].qkv), Values(c.weights.layers[1].qkv));
  EXPECT_NE(Values(a.weights.layers[0].qkv), Values(a.weights.layers[1].qkv));
  EXPECT_NE(Values(a.weights.layers[0].attention_out), Values(a.weights.layers[0].qkv));
}

TEST_F(RandomWeightsTest, NormsAreOneBiasesZeroTheHeadIsTied) {
  const MaterializedWeights model = Make(1);
  EXPECT_THAT(Values(model.weights.final_norm.weight), ::testing::Each(1.0f));
  EXPECT_THAT(Values(model.weights.layers[0].mlp_norm.weight), ::testing::Each(1.0f));
  EXPECT_THAT(Values(model.weights.layers[0].qkv_bias), ::testing::Each(0.0f));
  EXPECT_EQ(model.weights.head.segments[0].data, model.weights.embed.segments[0].data);
  EXPECT_EQ(model.weights.final_norm.epsilon, spec_.final_norm.epsilon);
}

TEST_F(RandomWeightsTest, ANarrowDtypeHasTheSameNumbersRounded) {
  std::vector<float> expected = Values(Make(3).weights.layers[0].mlp_up);
  for (float& value : expected) value = RoundBf16(value);
  EXPECT_EQ(Values(Make(3, DType::kBF16).weights.layers[0].mlp_up), expected);
}

}  // namespace
}  // namespace berth::loader
