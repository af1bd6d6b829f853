#include "worker/runtime/batch_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace berth::runtime {
namespace {

using engine::RowRecord;
using engine::StepPlanBuilder;
using testing::ElementsAre;

std::vector<int32_t> Ints(const kernels::Tensor& tensor) {
  if (tensor.empty()) return {};
  const int32_t* data = tensor.data<int32_t>();
  return {data, data + tensor.elements()};
}

class BatchTensorsTest : public testing::Test {
 protected:
  BatchTensorsTest()
      : slots_(*SlotTable::Create({.slots = 4, .vocab = 10, .max_length = 200}, kernels::HostAllocator())),
        batch_(*BatchTensors::Create(*slots_, 16, 9, kernels::HostAllocator())) {}

  StepTensors Fill(const StepPlanBuilder& builder) {
    plan_ = builder.Build();
    slots_->Apply(plan_);
    return *batch_->Fill(plan_);
  }

  std::unique_ptr<SlotTable> slots_;
  std::unique_ptr<BatchTensors> batch_;
  engine::StepPlan plan_;
};

TEST_F(BatchTensorsTest, MixesDecodeRowsAndPromptChunks) {
  StepPlanBuilder builder(1);
  builder.Admit({.slot = 0}, {.prompt_length = 1}, {5});
  builder.Admit({.slot = 2}, {.prompt_length = 1}, {6});
  builder.Admit({.slot = 3}, {.prompt_length = 1}, {7});
  for (int slot : {0, 2, 3}) builder.Block({.slot = slot, .index = 0, .block = 10 + slot});
  builder.Block({.slot = 2, .index = 1, .block = 20});
  slots_->Sampled(0, 4);
  builder.DecodeRow({.slot = 0, .position = 9, .sample = 1});
  builder.Row({.slot = 2, .position = 63, .sample = 0}, {1, 2});
  builder.Row({.slot = 3, .position = 0, .sample = 1}, {3, 3, 3});
  const StepTensors step = Fill(builder);
  EXPECT_THAT(Ints(step.token), ElementsAre(4, 1, 2, 3, 3, 3));
  EXPECT_EQ(step.batch.tokens, 6);
  EXPECT_EQ(step.batch.sequences, 3);
  EXPECT_THAT(Ints(step.batch.position), ElementsAre(9, 63, 64, 0, 1, 2));
  EXPECT_THAT(Ints(step.batch.sequence_of), ElementsAre(0, 1, 1, 2, 2, 2));
  EXPECT_THAT(Ints(step.batch.query_start), ElementsAre(0, 1, 3, 6));
  EXPECT_THAT(Ints(step.batch.context_length), ElementsAre(10, 65, 3));
  EXPECT_EQ(Ints(step.batch.block_table.Rows(0, 1))[0], 10);
  EXPECT_THAT(std::vector<int32_t>(Ints(step.batch.block_table.Rows(1, 1))).at(1), 20);
  EXPECT_EQ(Ints(step.batch.block_table.Rows(2, 1))[0], 13);
  EXPECT_THAT(Ints(step.logit_row), ElementsAre(0, 5));
  EXPECT_THAT(Ints(step.sample.slot), ElementsAre(0, 3));
  EXPECT_THAT(Ints(step.sample.position), ElementsAre(10, 3));
  EXPECT_EQ(step.sample.tokenizer_size, 9);
  EXPECT_TRUE(step.sample.edit_start.empty());
  EXPECT_TRUE(step.sample.top_token.empty());
}

TEST_F(BatchTensorsTest, AChunkInTheMiddleOfAPromptSamplesNothing) {
  StepPlanBuilder builder(1);
  builder.Row({.slot = 1, .sample = 0}, {1, 2});
  const StepTensors step = Fill(builder);
  EXPECT_TRUE(step.logit_row.empty());
  EXPECT_TRUE(step.sample.logits.empty());
}

TEST_F(BatchTensorsTest, EditsGrowAndStayWithTheirRows) {
  StepPlanBuilder first(1);
  first.Admit({.slot = 0}, {.prompt_length = 1, .logit_bias = {{3, 1.5f}}}, {1});
  first.Admit({.slot = 1}, {.prompt_length = 1, .sampling = {.logprobs = 2}}, {1});
  first.Row({.slot = 0, .sample = 1}, {1});
  first.Row({.slot = 1, .sample = 1}, {1});
  const StepTensors step = Fill(first);
  EXPECT_THAT(Ints(step.sample.edit_start), ElementsAre(0, 1, 1));
  EXPECT_THAT(Ints(step.sample.edit_token), ElementsAre(3));
  EXPECT_EQ(step.sample.edit_value.data<float>()[0], 1.5f);
  EXPECT_EQ(step.sample.top_token.dim(0), 2);

  StepPlanBuilder second(2);
  second.Admit({.slot = 2}, {.prompt_length = 1, .logit_bias = {{1, 1.f}, {2, 2.f}, {3, 3.f}, {4, 4.f}, {5, 5.f}}}, {1});
  second.Row({.slot = 2, .sample = 1}, {1});
  const StepTensors grown = Fill(second);
  EXPECT_THAT(Ints(grown.sample.edit_token), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(grown.sample.edit_value.data<float>()[4], 5.f);
}

}  // namespace
}  // namespace berth::runtime
