#include "base/hash.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>
#include <string>

namespace berth::base {
namespace {

// Routing places sessions by these values: a change of the function moves every session of a running cluster.
TEST(HashTest, ValuesArePinned) {
  EXPECT_EQ(Hash64(""), Hash64("", 0));
  EXPECT_EQ(Hash64("session-1"), 6793059887289826446u);
  EXPECT_EQ(Hash64("session-1", 7), 16963820026658855757u);
  EXPECT_EQ(HashCombine(1, 2), 5083085227965382967u);
}

TEST(HashTest, LengthAndZeroBytesCount) {
  std::set<uint64_t> seen;
  for (int length = 0; length < 40; ++length) seen.insert(Hash64(std::string(length, '\0')));
  EXPECT_EQ(seen.size(), 40u);
}

TEST(HashTest, FourTextsAtOnceHaveTheHashOfEach) {
  std::string text;
  for (int i = 0; i < 4 * 120; ++i) text.push_back(static_cast<char>(i * 37));
  const char* const begin = text.data();
  const std::array<uint64_t, 4> hashes = Hash64x4({begin, begin + 120, begin + 240, begin + 360}, 120);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(hashes[i], Hash64(std::string_view(text).substr(120 * i, 120))) << i;
}

TEST(HashTest, OneBitChangesAboutHalfTheHash) {
  double changed = 0;
  std::string text = "a session id of some length";
  const uint64_t before = Hash64(text);
  for (size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string other = text;
    other[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    changed += std::popcount(before ^ Hash64(other));
  }
  EXPECT_NEAR(changed / (text.size() * 8), 32, 2);
}

}  // namespace
}  // namespace berth::base
