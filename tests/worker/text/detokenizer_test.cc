#include "worker/text/detokenizer.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/text/golden.h"
#include "worker/loader/tokenizer_json.h"
#include "worker/text/sim_tokenizer.h"
#include "worker/text/utf8.h"

namespace berth::text {
namespace {

std::unique_ptr<Tokenizer> LoadGolden(const std::string& name) {
  absl::StatusOr<TokenizerData> data = SimTokenizerData();
  if (name.starts_with("sp_")) {
    data = loader::ParseSentencePiece(ReadGolden(name + ".model"), "");
  } else if (name != "sim") {
    data = loader::ParseTokenizerJson(ReadGolden(name + ".json"), "");
  }
  EXPECT_TRUE(data.ok()) << data.status();
  auto tokenizer = MakeTokenizer(*std::move(data));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

class StreamingTest : public testing::TestWithParam<const char*> {};

TEST_P(StreamingTest, PiecesAreWholeCharactersAndJoinToTheDecodedText) {
  const std::unique_ptr<Tokenizer> tokenizer = LoadGolden(GetParam());
  std::mt19937 random(1);
  for (const std::vector<int32_t>& ids : GoldenIdLists(tokenizer->size())) {
    for (const bool skip_special : {true, false}) {
      StreamingDetokenizer detokenizer(*tokenizer, skip_special, {});
      std::string joined;
      for (size_t at = 0; at < ids.size();) {
        const size_t count = std::min<size_t>(1 + random() % 3, ids.size() - at);
        const std::string piece = detokenizer.Append(absl::MakeConstSpan(ids).subspan(at, count));
        EXPECT_EQ(FindInvalidUtf8(piece), std::string::npos);
        joined += piece;
        at += count;
      }
      joined += detokenizer.Finish();
      EXPECT_EQ(joined, tokenizer->Decode(ids, skip_special));
      EXPECT_EQ(FindInvalidUtf8(joined), std::string::npos);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, StreamingTest,
                         testing::Values("gpt2", "llama3", "metaspace", "llama2", "sp_bpe", "sp_unigram", "sim"),
                         [](const auto& info) { return info.param; });

// Tokenizers that neither normalize, nor put a space in front, nor lack a character.
class ReversibleTest : public testing::TestWithParam<const char*> {};

TEST_P(ReversibleTest, DecodingWhatWasEncodedGivesTheTextBack) {
  const std::unique_ptr<Tokenizer> tokenizer = LoadGolden(GetParam());
  for (const std::string& text : ReadCorpus()) {
    const auto ids = tokenizer->Encode(text, {.parse_special = false});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(tokenizer->Decode(*ids, /*skip_special=*/true), text);
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, ReversibleTest, testing::Values("llama3", "sp_bpe", "sim"),
                         [](const auto& info) { return info.param; });

class DetokenizerTest : public testing::Test {
 protected:
  const std::unique_ptr<Tokenizer> sim_ = LoadGolden("sim");
  const std::unique_ptr<Tokenizer> llama_ = LoadGolden("sp_bpe");

  static int32_t Byte(unsigned char byte) { return SimVocabulary::kFirstByte + byte; }
};

TEST_F(DetokenizerTest, HoldsBackAnUnfinishedCharacter) {
  StreamingDetokenizer detokenizer(*sim_, true, {});
  EXPECT_EQ(detokenizer.Append({Byte('a'), Byte(0xF0)}), "a");
  EXPECT_EQ(detokenizer.Append({Byte(0x9F)}), "");
  EXPECT_EQ(detokenizer.Append({Byte(0x9A)}), "");
  EXPECT_EQ(detokenizer.Append({Byte(0xA2)}), "🚢");
  EXPECT_EQ(detokenizer.Finish(), "");
}

TEST_F(DetokenizerTest, AnUnfinishedCharacterAtTheEndIsOneReplacement) {
  StreamingDetokenizer detokenizer(*sim_, true, {});
  EXPECT_EQ(detokenizer.Append({Byte(0xE6), Byte(0xB8)}), "");
  EXPECT_EQ(detokenizer.Finish(), "\uFFFD");
}

TEST_F(DetokenizerTest, BrokenBytesAreReplacedPerMaximalPart) {
  EXPECT_EQ(sim_->Decode({Byte(0xE6), Byte(0xB8), Byte('x'), Byte(0x80), Byte(0xFF)}, true), "\uFFFDx\uFFFD\uFFFD");
}

TEST_F(DetokenizerTest, SpecialTokensShowOnlyWhenAsked) {
  const std::vector<int32_t> ids = {Byte('a'), SimVocabulary::kEos, Byte('b')};
  EXPECT_EQ(sim_->Decode(ids, true), "ab");
  EXPECT_EQ(sim_->Decode(ids, false), "a<eos>b");
}

TEST_F(DetokenizerTest, IdsOutsideTheVocabularyAreNothing) {
  EXPECT_EQ(sim_->Decode({-1, Byte('a'), SimVocabulary::kEnd, 1 << 30}, true), "a");
}

TEST_F(DetokenizerTest, OnlyAStartLosesItsLeadingSpace) {
  const auto ids = llama_->Encode("hello", {.add_special = false});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(StreamingDetokenizer(*llama_, true, {}).Append(*ids), "hello");
  EXPECT_EQ(StreamingDetokenizer(*llama_, true, {llama_->bos_id()}).Append(*ids), "hello");
  EXPECT_EQ(StreamingDetokenizer(*llama_, true, *ids).Append(*ids), " hello");
}

TEST_F(DetokenizerTest, ByteTokensOfSentencePieceAreReplacedOneByOne) {
  const int32_t first = llama_->IdOf("<0x00>");
  EXPECT_EQ(llama_->Decode({first + 0xE6, first + 0xB8, llama_->IdOf("a")}, true), "\uFFFD\uFFFDa");
  EXPECT_EQ(llama_->Decode({first + 0xE6, first + 0xB8, first + 0xAF}, true), "港");
}

TEST_F(DetokenizerTest, OneBadByteSpoilsItsWholeRunInTokenizersByteFallback) {
  const std::unique_ptr<Tokenizer> llama = LoadGolden("llama2");
  const int32_t first = llama->IdOf("<0x00>");
  EXPECT_EQ(llama->Decode({first + 0xC3, first + 0xA4, first + 0xFF}, true), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(llama->Decode({first + 0xC3, first + 0xA4}, true), "ä");
}

}  // namespace
}  // namespace berth::text
