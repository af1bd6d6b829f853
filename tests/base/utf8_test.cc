#include "base/utf8.h"

#include "gtest/gtest.h"

namespace berth::base {
namespace {

TEST(IsUtf8, TakesWholeCharactersOnly) {
  for (const std::string_view good : {"", "plain", "aé港🚢", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  EXPECT_TRUE(IsUtf8(std::string_view("a\0b", 3)));
  // Stray and missing trailing bytes, overlong forms, half of a pair, beyond the last code point, bytes that never occur.
  for (const std::string_view bad :
       {"\x80", "a\xC3", "\xC3z", "\xE6\xB8", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xED\xA0\x80",
        "\xED\xBF\xBF", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF\xFE"}) {
    EXPECT_FALSE(IsUtf8(bad)) << bad;
  }
}

}  // namespace
}  // namespace berth::base
