// Every kind of wrong plan is caught: what the engine's property tests stand on.

#include "worker/runtime/sim_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <string>
#include <vector>

namespace berth::runtime {
namespace {

using engine::RowRecord;
using engine::StepPlan;
using engine::StepPlanBuilder;
using ::testing::HasSubstr;

constexpr SimVocabulary kVocabulary = {.begin = 100, .end = 1100};

SimDeviceOptions Options() {
  return {.limits = {.slots = 2, .kv_blocks = 8, .max_step_tokens = 128, .max_length = 256, .max_depth = 2},
          .vocabulary = kVocabulary,
          .nan_token = 7,
          .strict = true};
}

std::vector<int32_t> Tokens(int count) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), 10);
  return tokens;
}

void Admit(StepPlanBuilder& builder, int slot, const std::vector<int32_t>& tokens, std::vector<int32_t> blocks) {
  const engine::SequenceSpec spec{.prompt_length = static_cast<int>(tokens.size())};
  builder.Admit({.slot = slot, .generation = 1}, spec, tokens);
  for (size_t i = 0; i < blocks.size(); ++i)
    builder.Block({.slot = slot, .index = static_cast<int32_t>(i), .block = blocks[i]});
}

// Slot 0 holds 70 tokens in blocks 0 and 1 and has drawn one; slot 1 is empty.
class SimDeviceTest : public ::testing::Test {
 protected:
  SimDeviceTest() : device_(Options()) {
    StepPlanBuilder builder(1);
    Admit(builder, 0, Tokens(70), {0, 1});
    builder.Row({.slot = 0, .generation = 1, .sample = 1}, Tokens(70));
    const auto result = device_.Run(builder.Build());
    EXPECT_TRUE(result.ok()) << result.status();
    if (result.ok()) token_ = result->rows[0].token;
  }

  SimDevice device_;
  int32_t token_ = 0;
};

TEST_F(SimDeviceTest, DrawsWhatTheSequenceDrawsAlone) {
  const engine::SequenceSpec spec{.tokens = Tokens(70), .prompt_length = 70, .max_tokens = 2};
  const std::vector<int32_t> alone = SimOutput(kVocabulary, spec);
  EXPECT_EQ(token_, alone[0]);
  StepPlanBuilder builder(2);
  builder.DecodeRow({.slot = 0, .generation = 1, .position = 70, .sample = 1});
  const auto result = device_.Run(builder.Build());
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->rows.size(), 1);
  EXPECT_EQ(result->rows[0].token, alone[1]);
  EXPECT_EQ(result->step, 2);
}

TEST_F(SimDeviceTest, ASharedPrefixServesOnlyTheSequencesThatBeginWithIt) {
  for (const bool same : {true, false}) {
    SimDevice device(Options());
    StepPlanBuilder first(1), second(2);
    Admit(first, 0, Tokens(70), {0, 1});
    first.Row({.slot = 0, .generation = 1, .sample = 1}, Tokens(70));
    ASSERT_TRUE(device.Run(first.Build()).ok());
    std::vector<int32_t> tokens = Tokens(80);
    if (!same) tokens[3] = 5;
    Admit(second, 1, tokens, {0, 2});
    second.Row({.slot = 1, .generation = 1, .position = 64, .sample = 1}, absl::MakeSpan(tokens).subspan(64));
    const auto result = device.Run(second.Build());
    EXPECT_EQ(result.ok(), same);
    if (!same) {
      EXPECT_THAT(std::string(result.status().message()), HasSubstr("KV at 3 is another sequence's"));
    }
  }
}

TEST_F(SimDeviceTest, WrongPlansAreInternalErrors) {
  const struct {
    const char* message;
    std::function<void(StepPlanBuilder&)> build;
  } cases[] = {
      {"retires generation 2", [](auto& b) { b.Retire({.slot = 0, .generation = 2}); }},
      {"there are 2 slots", [](auto& b) { b.Retire({.slot = 2, .generation = 1}); }},
      {"retires generation 1", [](auto& b) { b.Retire({.slot = 1, .generation = 1}); }},
      {"a slot in use", [](auto& b) { Admit(b, 0, Tokens(5), {}); }},
      {"admits 0 tokens", [](auto& b) { Admit(b, 1, {}, {}); }},
      {"admits 257 tokens", [](auto& b) { Admit(b, 1, Tokens(257), {}); }},
      {"for an empty slot", [](auto& b) { b.Block({.slot = 1, .block = 3}); }},
      {"block 3 at 0/5 after 2", [](auto& b) { b.Block({.slot = 0, .index = 5, .block = 3}); }},
      {"block 8 at 0/2", [](auto& b) { b.Block({.slot = 0, .index = 2, .block = 8}); }},
      {"block 3 at 1/2", [](auto& b) { b.Block({.slot = 0, .group = 1, .index = 2, .block = 3}); }},
      {"a row of generation 9", [](auto& b) { b.DecodeRow({.slot = 0, .generation = 9, .position = 70}); }},
      {"a row at 69 after 70", [](auto& b) { b.DecodeRow({.slot = 0, .generation = 1, .position = 69}); }},
      {"70 to 72 of 71 tokens",
       [](auto& b) {
         b.Row({.slot = 0, .generation = 1, .position = 70}, {1, 2});
       }},
      {"are not its history", [](auto& b) { b.Row({.slot = 0, .generation = 1, .position = 70, .sample = 1}, {1}); }},
      {"with 0 blocks",
       [](auto& b) {
         Admit(b, 1, Tokens(5), {});
         b.Row({.slot = 1, .generation = 1, .sample = 1}, Tokens(5));
       }},
      {"a row at 1 after -1",
       [](auto& b) {
         Admit(b, 1, Tokens(5), {3});
         b.Row({.slot = 1, .generation = 1, .position = 1, .sample = 1}, Tokens(4));
       }},
      {"0 to 4 of 5 tokens",
       [](auto& b) {
         Admit(b, 1, Tokens(5), {3});
         b.Row({.slot = 1, .generation = 1, .sample = 1}, Tokens(4));
       }},
      {"was not drawn last",
       [](auto& b) {
         Admit(b, 1, Tokens(1), {3});
         b.DecodeRow({.slot = 1, .generation = 1, .position = 0, .sample = 1});
       }},
      {"writes the shared block 1",
       [](auto& b) {
         Admit(b, 1, Tokens(5), {1});
         b.Row({.slot = 1, .generation = 1, .sample = 1}, Tokens(5));
       }},
      {"a step of 130 tokens",
       [](auto& b) {
         Admit(b, 1, Tokens(130), {3, 4, 5});
         b.Row({.slot = 1, .generation = 1, .sample = 1}, Tokens(130));
       }},
  };
  for (const auto& c : cases) {
    SimDevice device = device_;
    StepPlanBuilder builder(2);
    c.build(builder);
    const auto result = device.Run(builder.Build());
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal) << c.message;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(c.message));
  }
  EXPECT_FALSE(device_.Run(StepPlanBuilder(1).Build()).ok()) << "a step runs once";
}

TEST_F(SimDeviceTest, TheNanTokenPoisonsItsSequenceOnly) {
  StepPlanBuilder builder(2);
  Admit(builder, 1, {1, 7, 2}, {3});
  builder.Row({.slot = 1, .generation = 1, .sample = 1}, {1, 7, 2});
  builder.DecodeRow({.slot = 0, .generation = 1, .position = 70, .sample = 1});
  const auto result = device_.Run(builder.Build());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rows[0].token, -1);
  EXPECT_GE(result->rows[1].token, 100);
}

}  // namespace
}  // namespace berth::runtime
