#include "worker/runtime/model_cost.h"

#include "gtest/gtest.h"

namespace berth::runtime {
namespace {

using kernels::DType;
using model::DecoderSpec;
using model::LayerSpec;

constexpr DevicePeak kPeak = {.bytes = 3e12, .flops = 1e15};

DecoderSpec Spec(const LayerSpec& layer) {
  return {.hidden = 4096, .vocab = 32000, .layers = std::vector<LayerSpec>(32, layer), .final_norm = {}};
}

TEST(ModelCostTest, DenseModelsReadAndMultiplyAllTheyHave) {
  const LayerSpec layer = {.attention = {.q_heads = 32, .kv_heads = 8, .head_dim = 128}, .mlp = {.intermediate = 14336}};
  const engine::StepCost cost = ModelCost(Spec(layer), DType::kBF16, kPeak);
  const double body = 32.0 * 4096 * (2 * 4096 + 2 * 1024 + 3 * 14336), head = 32000.0 * 4096;
  EXPECT_DOUBLE_EQ(cost.fixed, 32 * 12e-6);
  EXPECT_DOUBLE_EQ(cost.weights, (body + head) * 2 / 3e12 / 0.75);
  EXPECT_DOUBLE_EQ(cost.token, 2 * body / (0.6 * 1e15));
  EXPECT_DOUBLE_EQ(cost.kv_token, 32 * 2048 * 2 / 3e12 / 0.85);
  EXPECT_DOUBLE_EQ(cost.pair, 32 * 4 * 4096 / (0.3 * 1e15));
  EXPECT_EQ(cost.tile, 128);
}

TEST(ModelCostTest, ExpertsAreReadAndThoseOfATokenMultiplied) {
  LayerSpec layer = {.attention = {.q_heads = 32, .kv_heads = 8, .head_dim = 128},
                     .moe = {.routing = {.experts = 8, .top_k = 2}, .intermediate = 14336}};
  const engine::StepCost cost = ModelCost(Spec(layer), DType::kBF16, kPeak);
  layer.moe.routing.top_k = 1;
  const engine::StepCost one = ModelCost(Spec(layer), DType::kBF16, kPeak);
  layer.moe.routing.experts = 0;
  const engine::StepCost none = ModelCost(Spec(layer), DType::kBF16, kPeak);
  EXPECT_GE(cost.weights, 30 * none.weights);
  EXPECT_EQ(cost.weights, one.weights);
  EXPECT_GE(cost.token, 9 * none.token);
  EXPECT_NEAR((cost.token - none.token) / (one.token - none.token), 2, 1e-2);  // and the router
}

TEST(ModelCostTest, LatentsMultiplyTheirOwnMatrices) {
  const LayerSpec layer = {.attention = {.q_heads = 16,
                                         .kv_heads = 1,
                                         .head_dim = 512 + 64,
                                         .latent = {.rank = 512, .q_rank = 1536, .key_dim = 128, .value_dim = 128}}};
  const engine::StepCost cost = ModelCost(Spec(layer), DType::kBF16, kPeak);
  const double query = 1536.0 * 4096 + 16 * (128.0 + 64) * 1536, latent = 576.0 * 4096, up = 16 * 256.0 * 512;
  EXPECT_DOUBLE_EQ(cost.token, 2 * 32 * (query + latent + up + 4096.0 * 16 * 128) / (0.6 * 1e15));
  EXPECT_DOUBLE_EQ(cost.kv_token, 32 * 576 * 2 / 3e12 / 0.85);
  EXPECT_DOUBLE_EQ(cost.pair, 32 * 2 * 16 * (576 + 512) / (0.3 * 1e15));
}

}  // namespace
}  // namespace berth::runtime
