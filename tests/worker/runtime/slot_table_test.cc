#include "worker/runtime/slot_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace berth::runtime {
namespace {

using engine::StepPlanBuilder;
using testing::ElementsAre;

constexpr uint32_t kInPrompt = kernels::kTokenInPrompt;

std::unique_ptr<SlotTable> MakeTable() {
  return *SlotTable::Create({.slots = 3, .vocab = 10, .max_length = 200}, kernels::HostAllocator());
}

void Admit(SlotTable& table, int slot, const engine::SequenceSpec& spec) {
  StepPlanBuilder plan(1);
  plan.Admit({.slot = slot}, spec, spec.tokens);
  table.Apply(plan.Build());
}

std::vector<uint32_t> Counts(const SlotTable& table, int slot) {
  const uint32_t* counts = table.counts().data<uint32_t>() + slot * 10;
  return {counts, counts + 10};
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

TEST(SlotTableTest, CountsTellPromptFromOutput) {
  const auto table = MakeTable();
  Admit(*table, 1, {.tokens = {2, 3, 3, 5, 5, 2}, .prompt_length = 3});
  EXPECT_THAT(Counts(*table, 1), ElementsAre(0, 0, kInPrompt + 1, kInPrompt, 0, 2, 0, 0, 0, 0));
  EXPECT_THAT(Counts(*table, 0), testing::Each(0));
}

TEST(SlotTableTest, ANewSequenceForgetsTheOldOne) {
  const auto table = MakeTable();
  Admit(*table, 0,
        {.tokens = {1, 2},
         .prompt_length = 2,
         .min_tokens = 9,
         .stop_tokens = {4},
         .logit_bias = {{1, 2.f}},
         .bad_words = {{6}}});
  Admit(*table, 0, {.tokens = {7}, .prompt_length = 1, .sampling = {.temperature = 0.5f}});
  EXPECT_THAT(Counts(*table, 0), ElementsAre(0, 0, 0, 0, 0, 0, 0, kInPrompt, 0, 0));
  EXPECT_THAT(Edits(*table, 0, 1), ElementsAre());
  EXPECT_EQ(reinterpret_cast<const kernels::SlotSampling*>(table->params().raw())->temperature, 0.5f);
}

TEST(SlotTableTest, SamplingParametersReachTheDevice) {
  const auto table = MakeTable();
  Admit(*table, 2,
        {.tokens = {1},
         .prompt_length = 1,
         .sampling = {.temperature = 0.1f,
                      .top_p = 0.2f,
                      .min_p = 0.3f,
                      .top_k = 4,
                      .repetition_penalty = 0.5f,
                      .presence_penalty = 0.6f,
                      .frequency_penalty = 0.7f,
                      .logprobs = 8,
                      .seed = 9,
                      .choice = 10}});
  const auto& params = reinterpret_cast<const kernels::SlotSampling*>(table->params().raw())[2];
  EXPECT_EQ(params.temperature, 0.1f);
  EXPECT_EQ(params.top_p, 0.2f);
  EXPECT_EQ(params.min_p, 0.3f);
  EXPECT_EQ(params.top_k, 4);
  EXPECT_EQ(params.repetition_penalty, 0.5f);
  EXPECT_EQ(params.presence_penalty, 0.6f);
  EXPECT_EQ(params.frequency_penalty, 0.7f);
  EXPECT_EQ(params.logprobs, 8);
  EXPECT_EQ(params.seed, 9u);
  EXPECT_EQ(params.choice, 10);
}

TEST(SlotTableTest, StopTokensAreBannedBelowTheLeastLength) {
  const auto table = MakeTable();
  Admit(*table, 0, {.tokens = {1, 2}, .prompt_length = 2, .min_tokens = 2, .stop_tokens = {4, 5}});
  EXPECT_THAT(Edits(*table, 0, 2), ElementsAre("4 ban", "5 ban"));
  EXPECT_THAT(Edits(*table, 0, 3), ElementsAre("4 ban", "5 ban"));
  EXPECT_THAT(Edits(*table, 0, 4), ElementsAre());
}

TEST(SlotTableTest, BadWordsAreBannedWhereTheyWouldBeCompleted) {
  const auto table = MakeTable();
  Admit(*table, 0, {.tokens = {1, 2}, .prompt_length = 2, .bad_words = {{9}, {2, 3}, {2, 3, 4}, {1, 2, 3, 5, 6, 7, 8}}});
  EXPECT_THAT(Edits(*table, 0, 2), ElementsAre("9 ban", "3 ban"));
  table->Sampled(0, 3);
  EXPECT_THAT(Edits(*table, 0, 3), ElementsAre("9 ban", "4 ban"));
  table->Sampled(0, 2);
  EXPECT_THAT(Edits(*table, 0, 4), ElementsAre("9 ban", "3 ban"));
}

TEST(SlotTableTest, EveryRowOfEditsIsClosed) {
  const auto table = MakeTable();
  Admit(*table, 0, {.tokens = {1}, .prompt_length = 1, .logit_bias = {{3, -2.f}, {4, 5.f}}});
  Admit(*table, 1, {.tokens = {1}, .prompt_length = 1});
  LogitEdits edits;
  edits.Clear();
  for (int slot : {0, 1, 0}) table->AppendEdits(slot, 1, edits);
  EXPECT_THAT(edits.start, ElementsAre(0, 2, 2, 4));
  EXPECT_THAT(edits.token, ElementsAre(3, 4, 3, 4));
  EXPECT_THAT(edits.value, ElementsAre(-2, 5, -2, 5));
}

TEST(SlotTableTest, BlocksArriveInPieces) {
  const auto table = MakeTable();
  StepPlanBuilder plan(1);
  plan.Block({.slot = 1, .index = 0, .block = 7});
  plan.Block({.slot = 1, .index = 1, .block = 3});
  table->Apply(plan.Build());
  StepPlanBuilder more(2);
  more.Block({.slot = 1, .index = 2, .block = 5});
  table->Apply(more.Build());
  EXPECT_THAT(table->blocks(1, 64), ElementsAre(7));
  EXPECT_THAT(table->blocks(1, 65), ElementsAre(7, 3));
  EXPECT_THAT(table->blocks(1, 192), ElementsAre(7, 3, 5));
}

TEST(SlotTableTest, AFailedRowLeavesATokenThatCanBeRead) {
  const auto table = MakeTable();
  Admit(*table, 0, {.tokens = {1}, .prompt_length = 1});
  table->Sampled(0, 8);
  EXPECT_EQ(table->last_token(0), 8);
  table->Sampled(0, -1);
  EXPECT_EQ(table->last_token(0), 0);
}

}  // namespace
}  // namespace berth::runtime
