#include "worker/engine/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace berth::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

SequenceSpec AdmittedSpec() {
  SequenceSpec spec{.id = 1, .prompt_length = 2, .max_tokens = 9, .min_tokens = 3};
  spec.sampling.seed = 0x123456789abcdef0;
  spec.sampling.top_k = 40;
  spec.stop_tokens = {8, 9};
  spec.logit_bias = {{5, -1.5f}};
  spec.bad_words = {{1, 2, 3}, {4}};
  spec.rope_variant = 2;
  return spec;
}

class OddTokens : public TokenConstraint {
 public:
  int mask_words() const override { return 3; }
  void FillMask(absl::Span<uint32_t> mask) override { std::fill(mask.begin(), mask.end(), 0xAAAAAAAA); }
  void Accept(int32_t) override {}
};

StepPlanBuilder Builder() {
  StepPlanBuilder builder(42);
  builder.Row({.slot = 3, .generation = 7, .position = 0, .sample = 1}, {11, 12, 13});
  RowRecord masked{.slot = 1, .generation = 2, .position = 70, .sample = 1};
  OddTokens odd;
  builder.Mask(odd, masked);
  builder.DecodeRow(masked);
  builder.Admit({.slot = 3, .generation = 7}, AdmittedSpec(), {11, 12, 13});
  builder.Block({.slot = 3, .index = 0, .block = 5});
  builder.Retire({.slot = 3, .generation = 6});
  return builder;
}

// A copy of the bytes with one 32-bit word overwritten.
absl::Status FromBytesWith(const StepPlan& plan, const void* field, int32_t value) {
  std::vector<std::byte> bytes(plan.bytes().begin(), plan.bytes().end());
  const auto offset = static_cast<const std::byte*>(field) - plan.bytes().data();
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  return StepPlan::FromBytes(bytes).status();
}

TEST(StepPlanTest, EveryRecordComesBackFromTheBytes) {
  const auto plan = StepPlan::FromBytes(Builder().Build().bytes());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->step(), 42);
  EXPECT_FALSE(plan->empty());
  ASSERT_EQ(plan->retires().size(), 1);
  EXPECT_EQ(plan->retires()[0].generation, 6);
  ASSERT_EQ(plan->blocks().size(), 1);
  EXPECT_EQ(plan->blocks()[0].block, 5);

  ASSERT_EQ(plan->admits().size(), 1);
  const AdmitRecord& admit = plan->admits()[0];
  EXPECT_THAT(plan->tokens().subspan(admit.history_begin, admit.history_length), ElementsAre(11, 12, 13));
  EXPECT_EQ(admit.prompt_length, 2);
  EXPECT_EQ(admit.min_length, 5);
  EXPECT_EQ(admit.rope_variant, 2);
  EXPECT_EQ(admit.sampling.seed, 0x123456789abcdef0);
  EXPECT_EQ(admit.sampling.top_k, 40);
  EXPECT_THAT(plan->tokens().subspan(admit.stop_begin, admit.stop_count), ElementsAre(8, 9));
  ASSERT_EQ(admit.bias_count, 1);
  EXPECT_EQ(plan->biases()[admit.bias_begin].token, 5);
  EXPECT_EQ(plan->biases()[admit.bias_begin].value, -1.5f);
  EXPECT_EQ(admit.bad_words_count, 2);
  EXPECT_THAT(plan->tokens().subspan(admit.bad_words_begin, 6), ElementsAre(3, 1, 2, 3, 1, 4));

  ASSERT_EQ(plan->rows().size(), 2);
  const RowRecord& prompt = plan->rows()[0];
  EXPECT_EQ(prompt.count, 3);
  EXPECT_THAT(plan->tokens().subspan(prompt.token_begin, prompt.count), ElementsAre(11, 12, 13));
  EXPECT_EQ(plan->rows()[1].token_begin, RowRecord::kLastSampled);
  EXPECT_EQ(plan->rows()[1].count, 1);
  EXPECT_EQ(prompt.mask_words, 0);
  EXPECT_THAT(plan->masks().subspan(plan->rows()[1].mask_begin, plan->rows()[1].mask_words),
              ElementsAre(0xAAAAAAAA, 0xAAAAAAAA, 0xAAAAAAAA));
}

TEST(StepPlanTest, AnEmptyPlanIsAPlan) {
  EXPECT_TRUE(StepPlan().empty());
  EXPECT_EQ(StepPlan().step(), 0);
  EXPECT_TRUE(StepPlan().rows().empty());
  const StepPlan built = StepPlanBuilder(3).Build();
  EXPECT_TRUE(built.empty());
  const auto copy = StepPlan::FromBytes(built.bytes());
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(copy->step(), 3);
}

TEST(StepPlanTest, RefusesOtherBytes) {
  const StepPlan plan = Builder().Build();
  const absl::Span<const std::byte> bytes = plan.bytes();
  EXPECT_FALSE(StepPlan::FromBytes({}).ok());
  EXPECT_FALSE(StepPlan::FromBytes(bytes.first(bytes.size() - 1)).ok());
  EXPECT_FALSE(StepPlan::FromBytes(bytes.first(bytes.size() - 8)).ok());
  EXPECT_FALSE(StepPlan::FromBytes(bytes.first(16)).ok());
  EXPECT_FALSE(FromBytesWith(plan, bytes.data(), 1).ok()) << "magic";
  const absl::Status version = FromBytesWith(plan, bytes.data() + 4, 99);
  EXPECT_EQ(version.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(version.message()), HasSubstr("version 99, want 4"));
}

TEST(StepPlanTest, RefusesRecordsThatPointOutside) {
  const StepPlan plan = Builder().Build();
  const AdmitRecord& admit = plan.admits()[0];
  const RowRecord& row = plan.rows()[0];
  const RowRecord& decode = plan.rows()[1];
  const struct {
    const char* what;
    const void* field;
    int32_t value;
  } cases[] = {
      {"mask", &decode.mask_words, 4},
      {"retired slot", &plan.retires()[0].slot, -1},
      {"block", &plan.blocks()[0].block, -1},
      {"block index", &plan.blocks()[0].index, -2},
      {"admitted slot", &admit.slot, -1},
      {"history begin", &admit.history_begin, -1},
      {"history length", &admit.history_length, 1000},
      {"negative history", &admit.history_length, -3},
      {"prompt longer than history", &admit.prompt_length, 4},
      {"min length", &admit.min_length, -1},
      {"stop tokens", &admit.stop_count, INT32_MAX},
      {"bias", &admit.bias_count, 2},
      {"bad words", &admit.bad_words_count, 900},
      {"length of a bad word", &plan.tokens()[admit.bad_words_begin], 1000},
      {"row's slot", &row.slot, -1},
      {"position", &row.position, -1},
      {"position at the end", &row.position, INT32_MAX},
      {"no tokens", &row.count, 0},
      {"row's tokens", &row.token_begin, 1000},
      {"sample", &row.sample, 2},
      {"more scores than tokens", &row.score, 4},
      {"negative score", &row.score, -1},
      {"score of a last sampled token", &decode.score, 1},
      {"two last sampled tokens", &decode.count, 2},
      {"two rows of a slot", &decode.slot, 3},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(FromBytesWith(plan, c.field, c.value).code(), absl::StatusCode::kInvalidArgument) << c.what;
  }
}

TEST(StepPlanTest, DamagedBytesNeverReadOutside) {
  const unsigned seed = 20240607;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const StepPlan plan = Builder().Build();
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::byte> bytes(plan.bytes().begin(), plan.bytes().end());
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    const auto damaged = StepPlan::FromBytes(bytes);
    if (!damaged.ok()) continue;
    int64_t sum = 0;
    for (const AdmitRecord& admit : damaged->admits()) {
      for (const int32_t token : damaged->tokens().subspan(admit.history_begin, admit.history_length)) sum += token;
    }
    for (const RowRecord& row : damaged->rows()) {
      if (row.token_begin < 0) continue;
      for (const int32_t token : damaged->tokens().subspan(row.token_begin, row.count)) sum += token;
      if (row.score > 0) sum += damaged->tokens()[row.token_begin + row.score];
    }
    EXPECT_NE(sum, INT64_MAX);
  }
}

}  // namespace
}  // namespace berth::engine
