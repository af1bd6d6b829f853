#include "worker/loader/gguf_tokenizer.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/text/pre_tokenizer.h"
#include "worker/text/tokenizer.h"

namespace berth::loader {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

GgufTokenizerMetadata ByteLevel() {
  return {.model = "gpt2",
          .pre = "gpt-2",
          .tokens = {"<|end|>", "h", "i", "hi", "Ġ", "Ġhi", "<tool>"},
          .merges = {"h i", "Ġ hi"},
          .token_type = {3, 1, 1, 1, 1, 1, 4},
          .bos_token_id = 0,
          .eos_token_id = 0,
          .chat_template = "{{ messages }}"};
}

GgufTokenizerMetadata SentencePiece() {
  return {.model = "llama",
          .tokens = {"<unk>", "<s>", "</s>", "<0xC3>", "<0xA4>", "▁", "a", "b", "ab", "▁a", "▁ab"},
          .token_type = {2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1},
          .scores = {0, 0, 0, 0, 0, -5, -6, -7, -2, -1, -3},
          .bos_token_id = 1,
          .eos_token_id = 2,
          .eot_token_id = 0,
          .unknown_token_id = 0};
}

std::vector<int32_t> Ids(GgufTokenizerMetadata metadata, std::string_view text) {
  auto data = ParseGgufTokenizer(std::move(metadata));
  EXPECT_TRUE(data.ok()) << data.status();
  const auto tokenizer = text::MakeTokenizer(*std::move(data));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *(*tokenizer)->Encode(text, {});
}

void ExpectRefused(GgufTokenizerMetadata metadata, const std::string& words) {
  const auto data = ParseGgufTokenizer(std::move(metadata));
  EXPECT_EQ(data.status().code(), absl::StatusCode::kInvalidArgument) << words;
  EXPECT_THAT(data.status().message(), HasSubstr(words));
}

TEST(GgufTokenizerTest, ReadsAByteLevelVocabulary) {
  EXPECT_THAT(Ids(ByteLevel(), "hi hi"), ElementsAre(3, 5));
  EXPECT_THAT(Ids(ByteLevel(), "hi<|end|><tool>"), ElementsAre(3, 0, 6));
  const auto data = ParseGgufTokenizer(ByteLevel());
  EXPECT_EQ(data->chat_template, "{{ messages }}");
  EXPECT_THAT(data->generation_eos_ids, ElementsAre(0));
  ASSERT_EQ(data->added_tokens.size(), 2u);
  EXPECT_TRUE(data->added_tokens[0].special);
  EXPECT_FALSE(data->added_tokens[1].special);
}

TEST(GgufTokenizerTest, TheFirstTokenIsPutByTheKeyElseByThePreTokenizersHabit) {
  GgufTokenizerMetadata metadata = ByteLevel();
  metadata.add_bos_token = true;
  EXPECT_THAT(Ids(metadata, "hi"), ElementsAre(0, 3));
  metadata.add_bos_token.reset();
  metadata.pre = "llama-bpe";
  EXPECT_THAT(Ids(metadata, "hi"), ElementsAre(0, 3));
  metadata.add_bos_token = false;
  metadata.add_eos_token = true;
  EXPECT_THAT(Ids(metadata, "hi"), ElementsAre(3, 0));
}

TEST(GgufTokenizerTest, MergesByScoreWithByteFallback) {
  EXPECT_THAT(Ids(SentencePiece(), "ab"), ElementsAre(1, 10));
  EXPECT_THAT(Ids(SentencePiece(), "bab"), ElementsAre(1, 5, 7, 8));
  EXPECT_THAT(Ids(SentencePiece(), "aab"), ElementsAre(1, 9, 8));
  EXPECT_THAT(Ids(SentencePiece(), "bä"), ElementsAre(1, 5, 7, 3, 4));
  EXPECT_THAT(Ids(SentencePiece(), "b✓"), ElementsAre(1, 5, 7, 0));
  EXPECT_THAT(ParseGgufTokenizer(SentencePiece())->generation_eos_ids, ElementsAre(2, 0));
  GgufTokenizerMetadata no_prefix = SentencePiece();
  no_prefix.add_space_prefix = false;
  EXPECT_THAT(Ids(no_prefix, "ab"), ElementsAre(1, 8));
}

TEST(GgufTokenizerTest, EveryKnownPreTokenizerCompiles) {
  for (const char* pre :
       {"", "default", "gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-coder", "starcoder"}) {
    GgufTokenizerMetadata metadata = ByteLevel();
    metadata.pre = pre;
    metadata.add_bos_token = false;
    EXPECT_THAT(Ids(metadata, "hi"), ElementsAre(3)) << pre;
  }
}

TEST(GgufTokenizerTest, DeepseekSplitsByEachExpressionInTurn) {
  GgufTokenizerMetadata metadata = ByteLevel();
  metadata.pre = "deepseek-llm";
  const auto data = ParseGgufTokenizer(metadata);
  ASSERT_TRUE(data.ok()) << data.status();
  const auto pre_tokenizer = text::PreTokenizer::Make(data->pre_tokenizer);
  ASSERT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  const auto words = pre_tokenizer->Split("Größe δυσ 12港!?\n", true);
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_THAT(words->words, ElementsAre("Gr", "öß", "e", " δυσ", " ", "12", "港", "!?", "\n"));
}

TEST(GgufTokenizerTest, NamesTheKeyThatIsWrong) {
  GgufTokenizerMetadata metadata = ByteLevel();
  metadata.model = "bert";
  ExpectRefused(metadata, "tokenizer.ggml.model is \"bert\"");
  metadata = ByteLevel();
  metadata.pre = "newest";
  ExpectRefused(metadata, "tokenizer.ggml.pre is \"newest\"");
  metadata = ByteLevel();
  metadata.merges[1] = "h q";
  ExpectRefused(metadata, "tokenizer.ggml.merges[1] is \"h q\"");
  metadata.merges[1] = "hi";
  ExpectRefused(metadata, "tokenizer.ggml.merges[1]");
  metadata = ByteLevel();
  metadata.token_type.pop_back();
  ExpectRefused(metadata, "tokenizer.ggml.token_type has 6 entries");
  metadata = ByteLevel();
  metadata.eos_token_id = 7;
  ExpectRefused(metadata, "tokenizer.ggml.eos_token_id is 7");
  metadata = ByteLevel();
  metadata.tokens[2] = "\xC3";
  ExpectRefused(metadata, "tokenizer.ggml.tokens[2] is not UTF-8");
  metadata = SentencePiece();
  metadata.scores.clear();
  ExpectRefused(metadata, "tokenizer.ggml.scores has 0 entries");
  metadata = SentencePiece();
  metadata.scores[3] = std::nanf("");
  ExpectRefused(metadata, "tokenizer.ggml.scores has a NaN");
  ExpectRefused({.model = "gpt2"}, "tokenizer.ggml.tokens is empty");
}

}  // namespace
}  // namespace berth::loader
