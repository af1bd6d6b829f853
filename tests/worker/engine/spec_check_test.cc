#include "worker/engine/spec_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

namespace berth::engine {
namespace {

using ::testing::HasSubstr;

constexpr ExecutorLimits kLimits = {
    .slots = 1, .kv_blocks = 2, .max_step_tokens = 8, .max_length = 100, .max_depth = 1, .vocab_size = 50};

SequenceSpec Spec() { return {.id = 1, .tokens = {1, 2, 3, 4}, .prompt_length = 3, .max_tokens = 10}; }

TEST(CheckSpecTest, CutsLimitsToTheRoomLeft) {
  SequenceSpec spec = Spec();
  spec.max_tokens = std::numeric_limits<int>::max();
  spec.min_tokens = std::numeric_limits<int>::max();
  ASSERT_EQ(CheckSpec(kLimits, &spec), absl::OkStatus());
  EXPECT_EQ(spec.max_tokens, 97);
  EXPECT_EQ(spec.min_tokens, 97);
}

TEST(CheckSpecTest, RefusesWhatCanNeverRunAndNamesIt) {
  const struct {
    std::function<void(SequenceSpec&)> change;
    const char* message;
  } cases[] = {
      {[](SequenceSpec& s) { s.prompt_length = 0; }, "prompt_length is 0"},
      {[](SequenceSpec& s) { s.prompt_length = 5; }, "prompt_length is 5"},
      {[](SequenceSpec& s) { s.tokens.clear(); }, "the 0 tokens given"},
      {[](SequenceSpec& s) {
         s.tokens.assign(100, 1);
         s.prompt_length = 100;
       },
       "a prompt of 100 tokens"},
      {[](SequenceSpec& s) { s.tokens.assign(101, 1); }, "98 of output do not fit a context of 100"},
      {[](SequenceSpec& s) { s.max_tokens = -1; }, "max_tokens is -1"},
      {[](SequenceSpec& s) { s.min_tokens = -2; }, "min_tokens is -2"},
      {[](SequenceSpec& s) { s.tokens[1] = 50; }, "tokens holds token 50"},
      {[](SequenceSpec& s) { s.tokens[1] = -1; }, "tokens holds token -1"},
      {[](SequenceSpec& s) {
         s.stop_tokens = {3, 51};
       },
       "stop_tokens holds token 51"},
      {[](SequenceSpec& s) {
         s.bad_words = {{1}, {2, -5}};
       },
       "bad_words holds token -5"},
      {[](SequenceSpec& s) {
         s.logit_bias = {{99, 1.0f}};
       },
       "logit_bias holds token 99"},
  };
  for (const auto& c : cases) {
    SequenceSpec spec = Spec();
    c.change(spec);
    const absl::Status status = CheckSpec(kLimits, &spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

TEST(CheckSpecTest, WithoutAVocabularySizeOnlyNegativeIdsAreRefused) {
  ExecutorLimits limits = kLimits;
  limits.vocab_size = 0;
  SequenceSpec spec = Spec();
  spec.tokens[0] = 1 << 30;
  EXPECT_EQ(CheckSpec(limits, &spec), absl::OkStatus());
}

}  // namespace
}  // namespace berth::engine
