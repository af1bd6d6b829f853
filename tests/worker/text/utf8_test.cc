#include "worker/text/utf8.h"

#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "worker/text/byte_spelling.h"

namespace berth::text {
namespace {

std::string Lossy(std::string_view bytes) {
  std::string out;
  AppendLossyUtf8(bytes, out);
  return out;
}

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8("aé港🚢"), std::string::npos);
  EXPECT_EQ(FindInvalidUtf8(std::string_view("a\0b", 3)), std::string::npos);
  EXPECT_EQ(FindInvalidUtf8("é\x80"), 2u);
  EXPECT_EQ(FindInvalidUtf8("ab\xE6\xB8"), 2u);
}

TEST(Utf8Test, ReplacesMaximalPartsAsPythonDoes) {
  EXPECT_EQ(Lossy("a\xF0\x9F\x9A"), "a\uFFFD");
  EXPECT_EQ(Lossy("\xF0\x9F\x41"), "\uFFFDA");
  EXPECT_EQ(Lossy("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Lossy("\xC0\xAF\xFE"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Lossy("\xF4\x90\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Lossy("\xE6\xE6\xB8\xAF"), "\uFFFD港");
}

TEST(Utf8Test, MeasuresTheTailThatCouldStillBecomeACharacter) {
  EXPECT_EQ(UnfinishedUtf8Tail(""), 0u);
  EXPECT_EQ(UnfinishedUtf8Tail("aé"), 0u);
  EXPECT_EQ(UnfinishedUtf8Tail("a\xC3"), 1u);
  EXPECT_EQ(UnfinishedUtf8Tail("a\xE6\xB8"), 2u);
  EXPECT_EQ(UnfinishedUtf8Tail("a\xF0\x9F\x9A"), 3u);
  EXPECT_EQ(UnfinishedUtf8Tail("\xED\xA0"), 0u);  // a surrogate never completes
  EXPECT_EQ(UnfinishedUtf8Tail("\x80\x80\x80"), 0u);
  EXPECT_EQ(UnfinishedUtf8Tail("\xFF"), 0u);
}

TEST(Utf8Test, MeasuresWhiteSpaceAtBothEnds) {
  EXPECT_EQ(LeadingSpace(" \u3000\tx "), 5u);
  EXPECT_EQ(TrailingSpace(" x\u2028\n"), 4u);
  EXPECT_EQ(LeadingSpace("   "), 3u);
  EXPECT_EQ(TrailingSpace(""), 0u);
}

TEST(ByteSpellingTest, EveryByteHasItsCharacterAndBack) {
  for (int byte = 0; byte < 256; ++byte) {
    std::string piece;
    AppendUtf8(CharacterOfByte(static_cast<unsigned char>(byte)), piece);
    EXPECT_EQ(BytesOfSpelling(piece), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(BytesOfSpelling("ĠHello"), " Hello");
  EXPECT_EQ(BytesOfSpelling("a b"), std::nullopt);
  EXPECT_EQ(BytesOfSpelling("港"), std::nullopt);
}

TEST(ByteSpellingTest, ReadsByteTokens) {
  EXPECT_EQ(ByteOfToken("<0xE4>"), 0xE4);
  EXPECT_EQ(ByteOfToken("<0x0A>"), 0x0A);
  for (const char* piece : {"<0xe4>", "<0xE4", "0xE4", "<0xE44>", "<0xG4>", ""})
    EXPECT_EQ(ByteOfToken(piece), std::nullopt) << piece;
}

}  // namespace
}  // namespace berth::text
