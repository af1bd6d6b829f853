#include "worker/runtime/batch_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cpu/cpu_ops.h"

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

class CountingAllocator : public kernels::Allocator {
 public:
  absl::StatusOr<kernels::Buffer> Allocate(size_t bytes) override {
    ++count;
    return kernels::HostAllocator().Allocate(bytes);
  }
  int count = 0;
};

class AnyToken : public engine::TokenConstraint {
 public:
  explicit AnyToken(int words) : words_(words) {}
  int mask_words() const override { return words_; }
  void FillMask(absl::Span<uint32_t> mask) override { std::fill(mask.begin(), mask.end(), ~0u); }
  void Accept(int32_t) override {}

 private:
  const int words_;
};

class BatchTensorsTest : public testing::Test {
 protected:
  // The step as the device sees it.
  StepTensors Fill(const StepPlanBuilder& builder, const BatchPlace& place = {}) {
    const engine::StepPlan plan = builder.Build();
    slots_.Apply(plan);
    const StepTensors step = *batch_->Fill(plan, place);
    if (step.extras.bytes > 0) ops_->Upload(step.extras.to, step.extras.from, step.extras.bytes);
    if (step.rows.bytes > 0) ops_->Upload(step.rows.to, step.rows.from, step.rows.bytes);
    return step;
  }

  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeCpuOps({});
  SlotTable slots_{{.slots = 4, .max_length = 200}};
  std::unique_ptr<BatchTensors> batch_ =
      *BatchTensors::Create(slots_, {.max_step_tokens = 16, .vocab = 10, .tokenizer_size = 9, .areas = 2}, *ops_,
                            {.device = kernels::HostAllocator(), .staging = kernels::HostAllocator()});
};

TEST_F(BatchTensorsTest, MixesDecodeRowsAndPromptChunks) {
  StepPlanBuilder builder(1);
  builder.Admit({.slot = 0}, {.prompt_length = 1}, {5});
  builder.Admit({.slot = 2}, {.prompt_length = 1}, {6});
  builder.Admit({.slot = 3}, {.prompt_length = 1}, {7});
  for (int slot : {0, 2, 3}) builder.Block({.slot = slot, .index = 0, .block = 10 + slot});
  builder.Block({.slot = 2, .index = 1, .block = 20});
  builder.DecodeRow({.slot = 0, .position = 9, .sample = 1});
  builder.Row({.slot = 2, .position = 63, .sample = 0}, {1, 2});
  builder.Row({.slot = 3, .position = 0, .sample = 1}, {3, 3, 3});
  const StepTensors step = Fill(builder);
  EXPECT_THAT(Ints(step.token), ElementsAre(~0, 1, 2, 3, 3, 3));
  EXPECT_EQ(step.batch.tokens, 6);
  EXPECT_EQ(step.batch.sequences, 3);
  EXPECT_EQ(step.batch.decode_sequences, 1);
  EXPECT_EQ(step.batch.chunk_pairs, 64 + 65 + 1 + 2 + 3);
  EXPECT_EQ(step.batch.max_context, 65);
  EXPECT_THAT(Ints(step.batch.position), ElementsAre(9, 63, 64, 0, 1, 2));
  EXPECT_THAT(Ints(step.batch.sequence_of), ElementsAre(0, 1, 1, 2, 2, 2));
  EXPECT_THAT(Ints(step.batch.query_start), ElementsAre(0, 1, 3, 6));
  EXPECT_THAT(Ints(step.batch.context_length), ElementsAre(10, 65, 3));
  EXPECT_EQ(Ints(step.batch.block_table.Rows(0, 1))[0], 10);
  EXPECT_THAT(std::vector<int32_t>(Ints(step.batch.block_table.Rows(1, 1))).at(1), 20);
  EXPECT_EQ(Ints(step.batch.block_table.Rows(2, 1))[0], 13);
  EXPECT_THAT(Ints(step.last.row), ElementsAre(0, 2, 5));
  EXPECT_EQ(step.last.batch.tokens, 3);
  EXPECT_EQ(step.last.batch.sequences, 3);
  EXPECT_EQ(step.last.batch.decode_sequences, 3);
  EXPECT_THAT(Ints(step.last.batch.position), ElementsAre(9, 64, 2));
  EXPECT_THAT(Ints(step.last.batch.sequence_of), ElementsAre(0, 1, 2));
  EXPECT_THAT(Ints(step.last.batch.query_start), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(step.last.batch.block_table.raw(), step.batch.block_table.raw());
  EXPECT_THAT(Ints(step.logit_row), ElementsAre(0, 2)) << "of the last rows";
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

TEST_F(BatchTensorsTest, RopeVariantsFollowTheirSequences) {
  StepPlanBuilder builder(1);
  builder.Admit({.slot = 0}, {.prompt_length = 1, .rope_variant = 2}, {5});
  builder.Admit({.slot = 1}, {.prompt_length = 1}, {6});
  builder.Row({.slot = 1, .sample = 1}, {1, 2});
  builder.Row({.slot = 0, .sample = 1}, {3});
  EXPECT_TRUE(Fill(builder).batch.rope_variant.empty()) << "the model has one";
  batch_ = *BatchTensors::Create(slots_, {.max_step_tokens = 16, .vocab = 10, .tokenizer_size = 9, .rope_variants = true},
                                 *ops_, {.device = kernels::HostAllocator(), .staging = kernels::HostAllocator()});
  EXPECT_THAT(Ints(Fill(builder, {.entries = 3}).batch.rope_variant), ElementsAre(0, 2, 0));
}

TEST_F(BatchTensorsTest, PaddingReadsTheScratchBlockAndDrawsInTheScratchSlot) {
  StepPlanBuilder builder(1);
  builder.Admit({.slot = 2}, {.prompt_length = 1}, {5});
  builder.Block({.slot = 2, .index = 0, .block = 7});
  builder.DecodeRow({.slot = 2, .position = 9, .sample = 1});
  const StepTensors step = Fill(builder, {.entries = 3, .scratch_block = 99});
  EXPECT_THAT(Ints(step.token), ElementsAre(~2, kernels::kNoToken, kernels::kNoToken));
  EXPECT_EQ(step.batch.tokens, 3);
  EXPECT_EQ(step.batch.sequences, 3);
  EXPECT_EQ(step.batch.decode_sequences, 3);
  EXPECT_EQ(step.batch.max_context, 200) << "the step may stand for later ones";
  EXPECT_THAT(Ints(step.batch.position), ElementsAre(9, 0, 0));
  EXPECT_THAT(Ints(step.batch.sequence_of), ElementsAre(0, 1, 2));
  EXPECT_THAT(Ints(step.batch.query_start), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Ints(step.batch.context_length), ElementsAre(10, 1, 1));
  EXPECT_EQ(Ints(step.batch.block_table.Rows(0, 1))[0], 7);
  EXPECT_EQ(Ints(step.batch.block_table.Rows(1, 1))[0], 99);
  EXPECT_EQ(Ints(step.batch.block_table.Rows(2, 1))[0], 99);
  EXPECT_THAT(Ints(step.logit_row), ElementsAre(0, 1, 2));
  EXPECT_THAT(Ints(step.sample.slot), ElementsAre(2, 4, 4));
  EXPECT_EQ(step.sample.params.dim(0), 5);
}

TEST_F(BatchTensorsTest, EqualCountsGiveEqualAddresses) {
  StepPlanBuilder first(1), second(2);
  first.DecodeRow({.slot = 0, .position = 9, .sample = 1});
  second.Admit({.slot = 1}, {.prompt_length = 1, .sampling = {.presence_penalty = 1}}, {1});
  second.Row({.slot = 1, .sample = 1}, {1});
  second.DecodeRow({.slot = 0, .position = 10, .sample = 1});
  const StepTensors a = Fill(first, {.area = 0, .entries = 4}), b = Fill(second, {.area = 1, .entries = 4});
  EXPECT_NE(a.batch.number, b.batch.number) << "they may have other lengths";
  EXPECT_GT(a.batch.number, 0u) << "its layers are one batch";
  EXPECT_NE(a.rows.from, b.rows.from);
  EXPECT_EQ(a.rows.to, b.rows.to);
  EXPECT_EQ(a.token.raw(), b.token.raw());
  EXPECT_EQ(a.batch.block_table.raw(), b.batch.block_table.raw());
  EXPECT_EQ(a.batch.context_length.raw(), b.batch.context_length.raw());
  EXPECT_EQ(a.logit_row.raw(), b.logit_row.raw());
  EXPECT_EQ(a.sample.slot.raw(), b.sample.slot.raw());
  EXPECT_EQ(a.sample.token.raw(), b.sample.token.raw());
  EXPECT_EQ(a.sample.logprob.raw(), b.sample.logprob.raw());
}

TEST_F(BatchTensorsTest, OnlySequencesWithPenaltiesBringTheirHistory) {
  StepPlanBuilder builder(1);
  builder.Admit({.slot = 3}, {.prompt_length = 1, .sampling = {.top_k = 4, .seed = 9}}, {1, 2});
  builder.Admit({.slot = 1}, {.prompt_length = 2, .sampling = {.frequency_penalty = 1}}, {6, 5, 6});
  const StepTensors step = Fill(builder);
  EXPECT_EQ(step.rows.bytes, 0u);
  EXPECT_THAT(Ints(step.admit.slot), ElementsAre(3, 1));
  EXPECT_THAT(Ints(step.admit.history_start), ElementsAre(0, 0, 3));
  EXPECT_THAT(Ints(step.admit.prompt_length), ElementsAre(1, 2));
  EXPECT_THAT(Ints(step.admit.history), ElementsAre(6, 5, 6));
  const auto* params = reinterpret_cast<const kernels::SlotSampling*>(step.admit.params.raw());
  EXPECT_EQ(params[0].top_k, 4);
  EXPECT_EQ(params[0].seed, 9u);
  EXPECT_EQ(params[1].frequency_penalty, 1);
}

TEST_F(BatchTensorsTest, AHistoryOfAnyLengthFits) {
  std::vector<int32_t> history(1'000'000, 3);
  StepPlanBuilder builder(1);
  builder.Admit({.slot = 0}, {.prompt_length = 1, .sampling = {.presence_penalty = 1}}, history);
  EXPECT_EQ(Ints(Fill(builder).admit.history), history);
}

TEST_F(BatchTensorsTest, MasksOfAllSlotsTakeNoMoreMemory) {
  constexpr int kVocab = 3'000'000;
  CountingAllocator memory;
  batch_ = *BatchTensors::Create(slots_, {.max_step_tokens = 16, .vocab = kVocab, .tokenizer_size = kVocab}, *ops_,
                                 {.device = memory, .staging = memory});
  const int reserved = memory.count;
  AnyToken any(kVocab / 32);
  StepPlanBuilder builder(1);
  for (int slot = 0; slot < 4; ++slot) {
    builder.Admit({.slot = slot}, {.prompt_length = 1}, {5});
    RowRecord row{.slot = slot, .position = 0, .sample = 1};
    builder.Mask(any, row);
    builder.Row(row, {5});
  }
  EXPECT_EQ(Fill(builder).sample.bitmask.dim(0), 4);
  EXPECT_EQ(memory.count, reserved);
}

}  // namespace
}  // namespace berth::runtime
