#include "worker/model/slots.h"

#include <set>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::model {
namespace {

using ::testing::ElementsAre;

DecoderSpec Spec() {
  DecoderSpec spec{.hidden = 64, .vocab = 100};
  spec.layers.resize(2);
  for (LayerSpec& layer : spec.layers) {
    layer.attention.q_heads = 4;
    layer.attention.kv_heads = 2;
    layer.attention.head_dim = 32;
    layer.mlp.intermediate = 96;
  }
  return spec;
}

TEST(SlotsTest, ShapesFollowTheSpec) {
  const DecoderSpec spec = Spec();
  const SlotShape qkv = ShapeOf(spec, Slot::kQkv, 1).value();
  EXPECT_THAT(qkv.part_rows, ElementsAre(128, 64, 64));
  EXPECT_EQ(qkv.columns, 64);
  EXPECT_EQ(qkv.row_unit, 32);
  EXPECT_EQ(qkv.rows(), 256);
  EXPECT_EQ(ShapeOf(spec, Slot::kAttentionOut, 0)->columns, 128);
  EXPECT_THAT(ShapeOf(spec, Slot::kMlpUp, 0)->part_rows, ElementsAre(96, 96));
  EXPECT_EQ(ShapeOf(spec, Slot::kMlpDown, 0)->columns, 96);
  EXPECT_THAT(ShapeOf(spec, Slot::kHead, 0)->part_rows, ElementsAre(100));
  EXPECT_EQ(ShapeOf(spec, Slot::kFinalNorm, 0)->columns, 0);
}

TEST(SlotsTest, OptionalSlotsAreThereWhenTheSpecAsks) {
  DecoderSpec spec = Spec();
  const Slot optional[] = {Slot::kAttentionNormBias, Slot::kQkvBias,     Slot::kQNorm,     Slot::kKNorm,
                           Slot::kAttentionOutBias,  Slot::kMlpNormBias, Slot::kMlpUpBias, Slot::kMlpDownBias,
                           Slot::kFinalNormBias};
  for (const Slot slot : optional) EXPECT_FALSE(ShapeOf(spec, slot, 0).has_value()) << Info(slot).name;
  LayerSpec& layer = spec.layers[0];
  layer.attention_norm.bias = layer.mlp_norm.bias = layer.mlp.bias = spec.final_norm.bias = true;
  layer.attention.qkv_bias = layer.attention.out_bias = layer.attention.qk_norm = true;
  for (const Slot slot : optional) EXPECT_TRUE(ShapeOf(spec, slot, 0).has_value()) << Info(slot).name;
  EXPECT_THAT(ShapeOf(spec, Slot::kQkvBias, 0)->part_rows, ElementsAre(128, 64, 64));
  EXPECT_THAT(ShapeOf(spec, Slot::kQNorm, 0)->part_rows, ElementsAre(32));
  EXPECT_FALSE(ShapeOf(spec, Slot::kQkvBias, 1).has_value()) << "the other layer has none";
}

TEST(SlotsTest, MixturesHaveExpertsInPlaceOfOrBesideTheMlp) {
  DecoderSpec spec = Spec();
  EXPECT_FALSE(ShapeOf(spec, Slot::kRouter, 0).has_value());
  LayerSpec& layer = spec.layers[0];
  layer.moe.routing.experts = 3;
  layer.moe.intermediate = 40;
  EXPECT_THAT(ShapeOf(spec, Slot::kRouter, 0)->part_rows, ElementsAre(3));
  EXPECT_THAT(ShapeOf(spec, Slot::kExpertsUp, 0)->part_rows, ElementsAre(40, 40, 40, 40, 40, 40));
  EXPECT_THAT(ShapeOf(spec, Slot::kExpertsDown, 0)->part_rows, ElementsAre(64, 64, 64));
  EXPECT_EQ(ShapeOf(spec, Slot::kExpertsDown, 0)->columns, 40);
  EXPECT_TRUE(ShapeOf(spec, Slot::kMlpUp, 0).has_value());
  layer.mlp.intermediate = 0;
  EXPECT_FALSE(ShapeOf(spec, Slot::kMlpUp, 0).has_value());
}

TEST(SlotsTest, PlainMlpHasOnePart) {
  DecoderSpec spec = Spec();
  spec.layers[0].mlp.gated = false;
  EXPECT_THAT(ShapeOf(spec, Slot::kMlpUp, 0)->part_rows, ElementsAre(96));
}

TEST(SlotsTest, EverySlotHasAName) {
  std::set<std::string_view> names;
  for (int i = 0; i < kSlotCount; ++i) names.insert(Info(static_cast<Slot>(i)).name);
  EXPECT_EQ(names.size(), static_cast<size_t>(kSlotCount));
  EXPECT_EQ(names.count(""), 0u);
}

// What a rank computes from its rows of the input side must be what it has the columns for on the output side.
TEST(SlotsTest, ParallelAxesPair) {
  EXPECT_EQ(Info(Slot::kQkv).axis, ParallelAxis::kRows);
  EXPECT_EQ(Info(Slot::kQkvBias).axis, ParallelAxis::kRows);
  EXPECT_EQ(Info(Slot::kAttentionOut).axis, ParallelAxis::kColumns);
  EXPECT_EQ(Info(Slot::kMlpUp).axis, ParallelAxis::kRows);
  EXPECT_EQ(Info(Slot::kMlpDown).axis, ParallelAxis::kColumns);
  EXPECT_EQ(Info(Slot::kExpertsUp).axis, ParallelAxis::kRows);
  EXPECT_EQ(Info(Slot::kExpertsDown).axis, ParallelAxis::kColumns);
  EXPECT_EQ(Info(Slot::kAttentionNorm).axis, ParallelAxis::kNone);
  for (const Slot whole :
       {Slot::kQkvAdapterDown, Slot::kAttentionOutAdapterUp, Slot::kMlpUpAdapterDown, Slot::kMlpDownAdapterUp}) {
    EXPECT_EQ(Info(whole).axis, ParallelAxis::kNone) << Info(whole).name;
  }
  for (const Slot rows : {Slot::kQkvAdapterUp, Slot::kMlpUpAdapterUp}) EXPECT_EQ(Info(rows).axis, ParallelAxis::kRows);
  for (const Slot columns : {Slot::kAttentionOutAdapterDown, Slot::kMlpDownAdapterDown}) {
    EXPECT_EQ(Info(columns).axis, ParallelAxis::kColumns);
  }
}

}  // namespace
}  // namespace berth::model
