#include "gtest/gtest.h"
#include "tests/worker/text/golden.h"
#include "worker/loader/tokenizer_json.h"

namespace berth::text {
namespace {

class TokenizerJsonGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerJsonGolden, EncodesAndDecodesAsTheOriginal) {
  const std::string name = GetParam();
  auto data = loader::ParseTokenizerJson(ReadGolden(name + ".json"), "");
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, name, {});
  ExpectGoldenTexts(**tokenizer, name, /*always_skip=*/false);
}

INSTANTIATE_TEST_SUITE_P(Pipelines, TokenizerJsonGolden,
                         testing::Values("gpt2", "llama3", "qwen2", "smollm", "metaspace", "steps", "llama2"),
                         [](const auto& info) { return info.param; });

class SentencePieceGolden : public testing::TestWithParam<const char*> {};

TEST_P(SentencePieceGolden, EncodesAndDecodesAsTheOriginal) {
  const std::string name = GetParam();
  auto data = loader::ParseSentencePiece(ReadGolden(name + ".model"), "");
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, name, {.add_special = false, .parse_special = false});
  ExpectGoldenTexts(**tokenizer, name, /*always_skip=*/true);
}

INSTANTIATE_TEST_SUITE_P(Models, SentencePieceGolden, testing::Values("sp_bpe", "sp_unigram"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace berth::text
