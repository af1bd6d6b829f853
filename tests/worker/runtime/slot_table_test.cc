#include "worker/runtime/slot_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace berth::runtime {
namespace {

using engine::StepPlanBuilder;
using testing::ElementsAre;

constexpr SlotTableShape kShape = {.slots = 3, .max_length = 200};

void Admit(SlotTable& table, int slot, const engine::SequenceSpec& spec) {
  StepPlanBuilder plan(1);
  plan.Admit({.slot = slot}, spec, spec.tokens);
  table.Apply(plan.Build());
}

// "token value" of each edit of one row; banned tokens are "token ban".
std::vector<std::string> Edits(const SlotTable& table, int slot, int position) {
  LogitEdits edits;
  edits.Clear();
  table.AppendEdits(slot, position, edits);
  EXPECT_EQ(edits.start.back(), static_cast<int>(edits.token.size()));
  std::vector<std::string> result;
  for (size_t i = 0; i < edits.token.size(); ++i) {
    const std::string value = std::isinf(edits.value[i]) ? "ban" : std::to_string(static_cast<int>(edits.value[i]));
    result.push_back(std::to_string(edits.token[i]) + " " + value);
  }
  return result;
}

TEST(SlotTableTest, ANewSequenceForgetsTheOldOne) {
  SlotTable table(kShape);
  Admit(table, 0,
        {.tokens = {1, 2},
         .prompt_length = 2,
         .min_tokens = 9,
         .stop_tokens = {4},
         .logit_bias = {{1, 2.f}},
         .bad_words = {{6}}});
  Admit(table, 0, {.tokens = {7}, .prompt_length = 1, .sampling = {.temperature = 0.5f}});
  EXPECT_THAT(Edits(table, 0, 1), ElementsAre());
  EXPECT_EQ(table.sampling(0).temperature, 0.5f);
}

TEST(SlotTableTest, StopTokensAreBannedBelowTheLeastLength) {
  SlotTable table(kShape);
  Admit(table, 0, {.tokens = {1, 2}, .prompt_length = 2, .min_tokens = 2, .stop_tokens = {4, 5}});
  EXPECT_THAT(Edits(table, 0, 2), ElementsAre("4 ban", "5 ban"));
  EXPECT_THAT(Edits(table, 0, 3), ElementsAre("4 ban", "5 ban"));
  EXPECT_THAT(Edits(table, 0, 4), ElementsAre());
}

TEST(SlotTableTest, BadWordsAreBannedWhereTheyWouldBeCompleted) {
  SlotTable table(kShape);
  Admit(table, 0, {.tokens = {1, 2}, .prompt_length = 2, .bad_words = {{9}, {2, 3}, {2, 3, 4}, {1, 2, 3, 5, 6, 7, 8}}});
  EXPECT_THAT(Edits(table, 0, 2), ElementsAre("9 ban", "3 ban"));
  table.Sampled(0, 0, 3);
  EXPECT_THAT(Edits(table, 0, 3), ElementsAre("9 ban", "4 ban"));
  table.Sampled(0, 0, 2);
  EXPECT_THAT(Edits(table, 0, 4), ElementsAre("9 ban", "3 ban"));
}

TEST(SlotTableTest, EveryRowOfEditsIsClosed) {
  SlotTable table(kShape);
  Admit(table, 0, {.tokens = {1}, .prompt_length = 1, .logit_bias = {{3, -2.f}, {4, 5.f}}});
  Admit(table, 1, {.tokens = {1}, .prompt_length = 1});
  LogitEdits edits;
  edits.Clear();
  for (int slot : {0, 1, 0}) table.AppendEdits(slot, 1, edits);
  EXPECT_THAT(edits.start, ElementsAre(0, 2, 2, 4));
  EXPECT_THAT(edits.token, ElementsAre(3, 4, 3, 4));
  EXPECT_THAT(edits.value, ElementsAre(-2, 5, -2, 5));
}

TEST(SlotTableTest, BlocksArriveInPieces) {
  SlotTable table(kShape);
  StepPlanBuilder plan(1);
  plan.Block({.slot = 1, .index = 0, .block = 7});
  plan.Block({.slot = 1, .index = 1, .block = 3});
  table.Apply(plan.Build());
  StepPlanBuilder more(2);
  more.Block({.slot = 1, .index = 2, .block = 5});
  table.Apply(more.Build());
  EXPECT_THAT(table.blocks(1, 64), ElementsAre(7));
  EXPECT_THAT(table.blocks(1, 65), ElementsAre(7, 3));
  EXPECT_THAT(table.blocks(1, 192), ElementsAre(7, 3, 5));
}

TEST(SlotTableTest, OnlyEditsThatApplyAreExpected) {
  SlotTable table(kShape);
  Admit(table, 0, {.tokens = {1}, .prompt_length = 1, .min_tokens = 3, .stop_tokens = {4}});
  Admit(table, 1, {.tokens = {1}, .prompt_length = 1, .logit_bias = {{3, 1.f}}});
  Admit(table, 2, {.tokens = {1}, .prompt_length = 1, .bad_words = {{2, 3}}});
  EXPECT_TRUE(table.MayEdit(0, 3));
  EXPECT_FALSE(table.MayEdit(0, 4));
  EXPECT_TRUE(table.MayEdit(1, 4));
  EXPECT_TRUE(table.MayEdit(2, 4));
  EXPECT_FALSE(table.EditsNeedHistory(0));
  EXPECT_FALSE(table.EditsNeedHistory(1));
  EXPECT_TRUE(table.EditsNeedHistory(2));
}

TEST(SlotTableTest, WhatASequenceDrewAfterItLeftIsNobodys) {
  SlotTable table(kShape);
  StepPlanBuilder plan(1);
  plan.Admit({.slot = 0, .generation = 2}, {.prompt_length = 1, .bad_words = {{2, 3}}}, {1});
  table.Apply(plan.Build());
  table.Sampled(0, 1, 2);
  EXPECT_THAT(Edits(table, 0, 2), ElementsAre());
  table.Sampled(0, 2, 2);
  EXPECT_THAT(Edits(table, 0, 3), ElementsAre("3 ban"));
}

}  // namespace
}  // namespace berth::runtime
