#include "worker/loader/materialize.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/dequantize.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

namespace berth::loader {
namespace {

using berth::testing::StoredTensor;

// A tiny model's checkpoint in memory.
class MaterializeTest : public ::testing::Test {
 protected:
  explicit MaterializeTest(const std::string& name = "internlm2") : checkpoint_(berth::testing::TinyCheckpoint(name)) {
    const std::string path = "tests/golden/models/tiny/" + name + "/config.json";
    const model::HfConfig config = model::HfConfig::Parse(berth::testing::ReadFile(path)).value();
    const model::Family* family = model::FindFamily(config).value();
    spec_ = family->parse(config).value();
    rules_ = family->rules(spec_);
    for (const StoredTensor& tensor : checkpoint_) {
      index_.push_back({.name = tensor.name,
                        .shape = tensor.shape,
                        .data = {reinterpret_cast<const std::byte*>(tensor.bytes.data()), tensor.bytes.size()}});
    }
  }

  MaterializedWeights Run(const Shard& shard = {}) {
    return Materialize(spec_, BuildPlan(spec_, rules_, index_, shard).value(), index_, kernels::HostAllocator()).value();
  }

  // Rows of a matrix as floats.
  static std::vector<std::vector<float>> Rows(const kernels::LinearWeight& weight) {
    std::vector<std::vector<float>> rows;
    for (const auto& segment : weight.segments) {
      const size_t bytes = kernels::RowBytes(segment.dtype, weight.k);
      for (int64_t i = 0; i < segment.rows; ++i) {
        rows.emplace_back(weight.k);
        kernels::DequantizeRow(segment.dtype, segment.data + i * bytes, rows.back().data(), weight.k);
      }
    }
    return rows;
  }
  static std::vector<float> Values(const kernels::Tensor& vector) {
    return {vector.data<float>(), vector.data<float>() + vector.dim(0)};
  }

  model::DecoderSpec spec_;
  std::vector<model::WeightRule> rules_;
  std::vector<StoredTensor> checkpoint_;
  CheckpointIndex index_;
};

TEST_F(MaterializeTest, OnlyReorderedRowsAreCopied) {
  const MaterializedWeights model = Run();
  const model::LayerWeights& layer = model.weights.layers[2];
  const auto in_checkpoint = [&](const kernels::LinearWeight::Segment& segment) {
    return std::any_of(index_.begin(), index_.end(),
                       [&](const TensorInfo& tensor) { return tensor.data.data() == segment.data; });
  };
  EXPECT_FALSE(in_checkpoint(layer.qkv.segments[0])) << "wqkv is grouped";
  EXPECT_TRUE(in_checkpoint(layer.attention_out.segments[0]));
  EXPECT_TRUE(in_checkpoint(layer.mlp_up.segments[0]));
  EXPECT_TRUE(in_checkpoint(layer.mlp_up.segments[1]));
  EXPECT_TRUE(in_checkpoint(layer.mlp_down.segments[0]));
}

TEST_F(MaterializeTest, NormsCarryTheSpecsNumbers) {
  const MaterializedWeights model = Run();
  const model::DecoderWeights& weights = model.weights;
  EXPECT_EQ(weights.final_norm.epsilon, 0.5f);
  EXPECT_EQ(weights.layers[0].mlp_norm.epsilon, 0.5f);
  EXPECT_EQ(weights.layers[0].mlp_norm.kind, kernels::NormKind::kRms);
}

// Two ranks together have what one has: rows of q, k, v, gate and up apart, columns of the two projections back apart.
TEST_F(MaterializeTest, RanksTogetherHaveTheWhole) {
  const MaterializedWeights both = Run(), a = Run({0, 2}), b = Run({1, 2});
  const model::LayerWeights& whole = both.weights.layers[1];
  const model::LayerWeights& first = a.weights.layers[1];
  const model::LayerWeights& second = b.weights.layers[1];

  const auto interleave = [](const auto& x, const auto& y, std::initializer_list<int> parts) {
    auto out = x;
    out.clear();
    int begin = 0;
    for (const int part : parts) {
      out.insert(out.end(), x.begin() + begin, x.begin() + begin + part);
      out.insert(out.end(), y.begin() + begin, y.begin() + begin + part);
      begin += part;
    }
    return out;
  };
  EXPECT_EQ(interleave(Rows(first.qkv), Rows(second.qkv), {32, 16, 16}), Rows(whole.qkv));
  EXPECT_EQ(interleave(Values(first.qkv_bias), Values(second.qkv_bias), {32, 16, 16}), Values(whole.qkv_bias));
  EXPECT_EQ(interleave(Rows(first.mlp_up), Rows(second.mlp_up), {48, 48}), Rows(whole.mlp_up));
  EXPECT_EQ(first.mlp_down.k, 48);
  for (size_t row = 0; row < 64; ++row) {
    EXPECT_EQ(interleave(Rows(first.mlp_down)[row], Rows(second.mlp_down)[row], {48}), Rows(whole.mlp_down)[row]);
    EXPECT_EQ(interleave(Rows(first.attention_out)[row], Rows(second.attention_out)[row], {32}),
              Rows(whole.attention_out)[row]);
  }
  EXPECT_EQ(Values(first.attention_norm.weight), Values(whole.attention_norm.weight));
  EXPECT_EQ(interleave(Rows(a.weights.head), Rows(b.weights.head), {144}), Rows(both.weights.head));
}

class MaterializeTiedTest : public MaterializeTest {
 protected:
  MaterializeTiedTest() : MaterializeTest("qwen2") {}
};

TEST_F(MaterializeTiedTest, TiedHeadIsTheEmbedding) {
  const MaterializedWeights model = Run();
  EXPECT_EQ(model.weights.head.segments[0].data, model.weights.embed.segments[0].data);
  const MaterializedWeights rank = Run({1, 2});
  const model::DecoderWeights& second = rank.weights;
  EXPECT_EQ(second.embed.n(), 288);
  EXPECT_EQ(second.head.n(), 144);
  const std::vector<std::vector<float>> rows = Rows(second.embed);
  EXPECT_EQ(Rows(second.head), std::vector<std::vector<float>>(rows.begin() + 144, rows.end()));
}

}  // namespace
}  // namespace berth::loader
