#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/kernels/cuda/twin_tensors.h"

namespace berth::kernels {
namespace {

// Products that follow each other without anything between them, as they do in a layer: on Hopper one kernel multiplies
// several, and its blocks wait for each other.
class ChainsTest : public TwinTensors {
 protected:
  struct Layer {
    Twin *norm, *up, *down;
  };

  Layer MakeLayer(int64_t hidden, int64_t inter) {
    return {&Floats({hidden}, 1, 0.1f), &Values({2 * inter, hidden}, 1 / std::sqrt(float(hidden))),
            &Values({hidden, inter}, 1 / std::sqrt(float(inter)))};
  }
};

TEST_P(ChainsTest, ResultsOfOneProductAreReadByTheNext) {
  struct Shape {
    int64_t hidden, inter;
  };
  for (const Shape& shape : {Shape{2048, 8192}, Shape{96, 352}, Shape{4096, 2528}}) {
    std::vector<Layer> layers;
    for (int i = 0; i < 5; ++i) layers.push_back(MakeLayer(shape.hidden, shape.inter));
    for (const int rows : {1, 8, 2, 5}) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << shape.hidden);
      const Twin &start = Values({rows, shape.hidden}), &between = Values({rows, shape.inter});
      Twin& residual = Values({rows, shape.hidden});
      const size_t bytes = start.device.elements() * 2;
      const auto run = [&](Ops& ops, auto side) {
        for (const Layer& layer : layers) {
          ops.MlpUp({.residual = side(residual),
                     .norm = {.weight = side(*layer.norm)},
                     .weight = WeightOf(side(*layer.up)),
                     .gated = true,
                     .activation = Activation::kSilu,
                     .out = side(between)});
          ops.MlpDown({.in = side(between), .weight = WeightOf(side(*layer.down)), .residual = side(residual)});
        }
      };
      std::memcpy(residual.host_memory.data(), start.host_memory.data(), start.host_memory.size());
      run(*cpu_, [](const Twin& twin) { return twin.host; });
      std::vector<float> first;
      for (int repeat = 0; repeat < 20; ++repeat) {
        Copy(residual.device.raw(), start.device.raw(), bytes);
        run(*cuda_, [](const Twin& twin) { return twin.device; });
        ASSERT_TRUE(cuda_->Sync().ok());
        const std::vector<float> values = Download(residual.device);
        if (repeat == 0) first = values;
        ASSERT_EQ(values, first) << "run " << repeat << " differs";
      }
      ExpectClose(residual, 2 * Tolerance());
    }
  }
}

// What is added to is read before the product: it has to hold the sums of the one before.
TEST_P(ChainsTest, TwoProductsAreAddedToTheSameRows) {
  constexpr int64_t kHidden = 1024;
  const Twin &first = Values({kHidden, kHidden}, 1.f / 32), &second = Values({kHidden, kHidden}, 1.f / 32);
  for (const int rows : {1, 8}) {
    const Twin& in = Values({rows, kHidden});
    Twin& residual = Values({rows, kHidden});
    RunBoth([&](Ops& ops, auto side) {
      for (const Twin* weight : {&first, &second, &first}) {
        ops.MlpDown({.in = side(in), .weight = WeightOf(side(*weight)), .residual = side(residual)});
      }
    });
    ExpectClose(residual, Tolerance());
  }
}

// A result that is no number has come too.
TEST_P(ChainsTest, ResultsThatAreNoNumbersAreHandedOn) {
  constexpr int64_t kHidden = 4096, kInter = 2528;
  const Layer layer = MakeLayer(kHidden, kInter);
  const Twin &between = Values({2, kInter}), &residual = Values({2, kHidden});
  ASSERT_EQ(cudaMemset(residual.device.raw(), 0xff, kHidden * 2), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  for (int i = 0; i < 2; ++i) {
    cuda_->MlpUp({.residual = residual.device,
                  .norm = {.weight = layer.norm->device},
                  .weight = WeightOf(layer.up->device),
                  .gated = true,
                  .activation = Activation::kSilu,
                  .out = between.device});
    cuda_->MlpDown({.in = between.device, .weight = WeightOf(layer.down->device), .residual = residual.device});
  }
  ASSERT_TRUE(cuda_->Sync().ok());
  const std::vector<float> values = Download(residual.device);
  for (int64_t i = 0; i < 2 * kHidden; ++i) ASSERT_EQ(std::isnan(values[i]), i < kHidden) << i;
}

// Two streams of one device whose chains would each take all of it.
TEST_P(ChainsTest, ChainsOfTwoOpsRunBesideEachOther) {
  constexpr int64_t kHidden = 2048, kInter = 4096;
  const auto other = *MakeCudaOps({.max_tokens = 8, .max_hidden = kHidden, .max_product = 2 * kInter});
  const Layer layer = MakeLayer(kHidden, kInter);
  const Twin &between = Values({1, kInter}), &other_between = Values({1, kInter}), &residual = Values({1, kHidden}),
             &other_residual = Values({1, kHidden});
  const auto step = [&](Ops& ops, const Twin& rows, const Twin& inter) {
    ops.MlpUp({.residual = rows.device,
               .norm = {.weight = layer.norm->device},
               .weight = WeightOf(layer.up->device),
               .gated = true,
               .activation = Activation::kSilu,
               .out = inter.device});
    ops.MlpDown({.in = inter.device, .weight = WeightOf(layer.down->device), .residual = rows.device});
  };
  for (int i = 0; i < 300; ++i) {
    step(*cuda_, residual, between);
    step(*other, other_residual, other_between);
  }
  EXPECT_TRUE(cuda_->Sync().ok());
  EXPECT_TRUE(other->Sync().ok());
}

INSTANTIATE_TEST_SUITE_P(Types, ChainsTest, kDeviceTypes, DeviceTypeName);

}  // namespace
}  // namespace berth::kernels
