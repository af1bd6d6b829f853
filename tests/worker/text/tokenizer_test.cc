#include "worker/text/tokenizer.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The vocabulary a, b, c, ab, abc by characters, with an unknown token.
TokenizerData Letters() {
  TokenizerData data{.pieces = {"<unk>", "a", "b", "c", "ab", "abc", "bc"}, .unknown_id = 0};
  data.merges = {{2, 3, 6, 0}, {1, 2, 4, 1}, {4, 3, 5, 2}};  // "bc" goes before "ab"
  return data;
}

std::unique_ptr<Tokenizer> Make(TokenizerData data) {
  auto tokenizer = MakeTokenizer(std::move(data));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<int32_t> Ids(TokenizerData data, std::string_view text, const EncodeOptions& options = {}) {
  const auto ids = Make(std::move(data))->Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return *ids;
}

TEST(TokenizerTest, MergesByRankThenFromTheLeft) {
  EXPECT_THAT(Ids(Letters(), "abc"), ElementsAre(1, 6));
  EXPECT_THAT(Ids(Letters(), "abab"), ElementsAre(4, 4));
  TokenizerData repeated{.pieces = {"a", "aa"}, .merges = {{0, 0, 1, 0}}};
  EXPECT_THAT(Ids(repeated, "aaaaa"), ElementsAre(1, 1, 0));
}

TEST(TokenizerTest, AWholeWordMaySkipItsMerges) {
  TokenizerData data = Letters();
  data.ignore_merges = true;
  EXPECT_THAT(Ids(data, "abc"), ElementsAre(5));
}

TEST(TokenizerTest, UnknownCharactersBecomeTheUnknownTokenOrBytesOrNothing) {
  TokenizerData data = Letters();
  EXPECT_THAT(Ids(data, "axya"), ElementsAre(1, 0, 0, 1));
  data.fuse_unknown = true;
  EXPECT_THAT(Ids(data, "axya"), ElementsAre(1, 0, 1));
  data.byte_fallback = true;
  data.pieces.push_back("<0x78>");
  EXPECT_THAT(Ids(data, "axya"), ElementsAre(1, 7, 0, 1));
  data.unknown_id = -1;
  EXPECT_THAT(Ids(data, "aya"), ElementsAre(1, 1));
}

TEST(TokenizerTest, ALongWordTakesNoQuadraticTime) {
  const std::string word(400'000, 'a');
  TokenizerData data{.pieces = {"a", "aa", "aaaa"}, .merges = {{0, 0, 1, 0}, {1, 1, 2, 1}}};
  EXPECT_EQ(Ids(data, word).size(), word.size() / 4);
}

TEST(TokenizerTest, SpecialTokensAreFoundOnlyWhenAskedFor) {
  TokenizerData data = Letters();
  data.added_tokens = {{.id = 7, .content = "<bc>", .special = true}, {.id = 8, .content = "cc"}};
  EXPECT_THAT(Ids(data, "a<bc>cc"), ElementsAre(1, 7, 8));
  EXPECT_THAT(Ids(data, "a<bc>cc", {.parse_special = false}), ElementsAre(1, 0, 6, 0, 8));
}

TEST(TokenizerTest, TheLongestAddedTokenWins) {
  TokenizerData data = Letters();
  data.added_tokens = {{.id = 7, .content = "<a"}, {.id = 8, .content = "<ab>"}};
  EXPECT_THAT(Ids(data, "<ab><a>"), ElementsAre(8, 7, 0));
}

TEST(TokenizerTest, AddedTokensTakeWhiteSpaceAlong) {
  TokenizerData data = Letters();
  data.added_tokens = {{.id = 7, .content = "<l>", .lstrip = true}, {.id = 8, .content = "<r>", .rstrip = true}};
  EXPECT_THAT(Ids(data, "a \u3000<l> b"), ElementsAre(1, 7, 0, 2));
  EXPECT_THAT(Ids(data, "a <r> \n b"), ElementsAre(1, 0, 8, 2));
  EXPECT_THAT(Ids(data, "<r> <l>a"), ElementsAre(8, 7, 1));  // the space is taken once
}

TEST(TokenizerTest, ASingleWordTokenIsNotFoundInsideAWord) {
  TokenizerData data = Letters();
  data.added_tokens = {{.id = 7, .content = "ab", .single_word = true}};
  EXPECT_THAT(Ids(data, "ab.cab"), ElementsAre(7, 0, 3, 4));
  EXPECT_THAT(Ids(data, "éab"), ElementsAre(0, 4));
}

TEST(TokenizerTest, NormalizedTokensAreFoundAfterNormalization) {
  TokenizerData data = Letters();
  data.normalizer = {{.kind = NormalizerStep::Kind::kLowercase}};
  data.added_tokens = {{.id = 7, .content = "CAB", .normalized = true}, {.id = 8, .content = "BC"}};
  EXPECT_THAT(Ids(data, "caB"), ElementsAre(7));
  EXPECT_THAT(Ids(data, "BCbc"), ElementsAre(8, 6));
}

TEST(TokenizerTest, PutsItsOwnTokensAroundATextUnlessToldNotTo) {
  TokenizerData data = Letters();
  data.prefix_ids = {5};
  data.suffix_ids = {4, 3};
  EXPECT_THAT(Ids(data, "a"), ElementsAre(5, 1, 4, 3));
  EXPECT_THAT(Ids(data, ""), ElementsAre(5, 4, 3));
  EXPECT_THAT(Ids(data, "a", {.add_special = false}), ElementsAre(1));
}

TEST(TokenizerTest, KnowsItsTokens) {
  TokenizerData data = Letters();
  data.bos_id = 1;
  data.eos_id = 9;
  data.added_tokens = {{.id = 9, .content = "<end>", .special = true}};
  const std::unique_ptr<Tokenizer> tokenizer = Make(std::move(data));
  EXPECT_EQ(tokenizer->size(), 10);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 9);
  EXPECT_EQ(tokenizer->IdOf("abc"), 5);
  EXPECT_EQ(tokenizer->IdOf("<end>"), 9);
  EXPECT_EQ(tokenizer->IdOf("nothing"), -1);
  EXPECT_TRUE(tokenizer->IsSpecial(9));
  EXPECT_FALSE(tokenizer->IsSpecial(5));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_EQ(tokenizer->TokenBytes(9, false), "");
  EXPECT_EQ(tokenizer->TokenBytes(9, true), "<end>");
  EXPECT_EQ(tokenizer->TokenBytes(8, true), "");  // a hole
  EXPECT_EQ(tokenizer->TokenBytes(10, true), "");
}

TEST(TokenizerTest, ByteLevelTokensStandForTheirBytes) {
  TokenizerData data{.pieces = {"Ġa", "Ã", "<| é|>"}, .byte_level = true};
  const std::unique_ptr<Tokenizer> tokenizer = Make(std::move(data));
  EXPECT_EQ(tokenizer->TokenBytes(0, false), " a");
  EXPECT_EQ(tokenizer->TokenBytes(1, false), "\xC3");
  EXPECT_EQ(tokenizer->TokenBytes(2, false), "<| é|>");  // a space spells no byte: an added token
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8) {
  for (const char* text : {"ab\xFF", "\xC3", "\xED\xA0\x80", "\xC0\xAF", "\xF4\x90\x80\x80"}) {
    const auto ids = Make(Letters())->Encode(text, {});
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(ids.status().message(), HasSubstr("not UTF-8"));
  }
}

TEST(TokenizerTest, RefusesDataThatContradictsItself) {
  TokenizerData unknown = Letters();
  unknown.unknown_id = 99;
  EXPECT_THAT(MakeTokenizer(unknown).status().message(), HasSubstr("99"));
  TokenizerData merge = Letters();
  merge.merges.push_back({1, 77, 2, 3});
  EXPECT_THAT(MakeTokenizer(merge).status().message(), HasSubstr("77"));
  TokenizerData huge = Letters();
  huge.added_tokens = {{.id = 1 << 30, .content = "x"}};
  EXPECT_THAT(MakeTokenizer(huge).status().message(), HasSubstr("out of range"));
  TokenizerData broken = Letters();
  broken.pieces.push_back("\xC3");
  EXPECT_THAT(MakeTokenizer(broken).status().message(), HasSubstr("token 7"));
  TokenizerData model{.model = TokenizerData::Model::kSentencePiece, .sentencepiece_model = "no model"};
  EXPECT_EQ(MakeTokenizer(model).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace berth::text
