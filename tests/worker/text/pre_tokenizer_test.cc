#include "worker/text/pre_tokenizer.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Split(std::vector<PreTokenizerStep> steps, std::string_view text, bool at_start = true) {
  const auto pre_tokenizer = PreTokenizer::Make(std::move(steps));
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  const auto words = pre_tokenizer->Split(text, at_start);
  EXPECT_TRUE(words.ok()) << words.status();
  return {words->words.begin(), words->words.end()};
}

PreTokenizerStep By(const std::string& pattern, SplitBehavior behavior, bool invert = false) {
  return {.pattern = {.text = pattern}, .behavior = behavior, .invert = invert};
}

PreTokenizerStep ByRegex(const std::string& pattern) { return {.pattern = {.text = pattern, .is_regex = true}}; }

// The example of PyPI tokenizers' documentation of SplitDelimiterBehavior.
TEST(PreTokenizerTest, SplitsAsTheBehaviorSays) {
  const std::string text = "the-final--countdown";
  EXPECT_THAT(Split({By("-", SplitBehavior::kRemoved)}, text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(Split({By("-", SplitBehavior::kIsolated)}, text), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(Split({By("-", SplitBehavior::kMergedWithPrevious)}, text), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(Split({By("-", SplitBehavior::kMergedWithNext)}, text), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(Split({By("-", SplitBehavior::kContiguous)}, text), ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(PreTokenizerTest, InvertedTheTextBetweenMatchesIsTheMatch) {
  EXPECT_THAT(Split({By("ab", SplitBehavior::kRemoved, true)}, "xabyab"), ElementsAre("ab", "ab"));
  EXPECT_THAT(Split({By("ab", SplitBehavior::kMergedWithPrevious, true)}, "xabyz"), ElementsAre("x", "abyz"));
}

TEST(PreTokenizerTest, WordsNeverJoinAcrossAnEarlierSplit) {
  EXPECT_THAT(Split({By("|", SplitBehavior::kRemoved), By("-", SplitBehavior::kMergedWithPrevious)}, "a|-b"),
              ElementsAre("a", "-", "b"));
}

TEST(PreTokenizerTest, PutsAPrefixBeforeWords) {
  PreTokenizerStep prefix{.kind = PreTokenizerStep::Kind::kPrefix, .prefix = "_", .replace_spaces = "_"};
  EXPECT_THAT(Split({prefix}, "a b"), ElementsAre("_a_b"));
  EXPECT_THAT(Split({prefix}, " a"), ElementsAre("_a"));
  prefix.first_only = true;
  EXPECT_THAT(Split({prefix}, "a", /*at_start=*/false), ElementsAre("a"));
  EXPECT_THAT(Split({By("|", SplitBehavior::kRemoved), prefix}, "a|b"), ElementsAre("_a", "b"));
}

TEST(PreTokenizerTest, ExpressionsSeeUnicodeAsOnigurumaDoes) {
  EXPECT_THAT(Split({ByRegex(R"(\s+)")}, "a\u0085\u3000b"), ElementsAre("a", "\u0085\u3000", "b"));
  EXPECT_THAT(Split({ByRegex(R"(\s)")}, "a\u180Eb"), ElementsAre("a\u180Eb"));  // no white space since Unicode 6.3
  EXPECT_THAT(Split({ByRegex(R"([^\s]+)")}, "a\u180Eb c"), ElementsAre("a\u180Eb", " ", "c"));
  EXPECT_THAT(Split({ByRegex(R"(\w+)")}, "नमस्ते é_1‿x!"), ElementsAre("नमस्ते", " ", "é_1‿x", "!"));
  EXPECT_THAT(Split({ByRegex(R"((?i:'s))")}, "it'S"), ElementsAre("it", "'S"));
  EXPECT_THAT(Split({ByRegex(R"(a$)")}, "a\na"), ElementsAre("a", "\n", "a"));
}

TEST(PreTokenizerTest, ExpressionsThatAreNotSupportedAreNamed) {
  for (const char* pattern : {R"([\S])", R"([\p{L}&&[a-z]])", R"([a[bc]])", R"(\h)", R"((a)", ""}) {
    const auto result = PreTokenizer::Make({ByRegex(pattern)});
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
    EXPECT_THAT(result.status().message(), HasSubstr(pattern));
  }
}

TEST(PreTokenizerTest, ATextThatBacktracksForEverIsRefused) {
  const auto pre_tokenizer = PreTokenizer::Make({ByRegex("(?:a+a+)+[bc]")});
  ASSERT_TRUE(pre_tokenizer.ok());
  const std::string text(5000, 'a');
  const auto words = pre_tokenizer->Split(text, true);
  EXPECT_EQ(words.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(words.status().message(), HasSubstr("(?:a+a+)+[bc]"));
}

}  // namespace
}  // namespace berth::text
