#include "worker/engine/prefix_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace berth::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int32_t> Tokens(int count, int32_t first = 0) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(PrefixIndexTest, FindsTheLongestPublishedBeginning) {
  PrefixIndex index;
  std::vector<int32_t> tokens = Tokens(200);
  EXPECT_THAT(index.Publish(1, tokens, {10, 11, 12, 13}), ElementsAre(10, 11, 12)) << "the fourth block is not full";
  EXPECT_THAT(index.Find(1, tokens, 3), ElementsAre(10, 11, 12));
  EXPECT_THAT(index.Find(1, tokens, 2), ElementsAre(10, 11));
  EXPECT_THAT(index.Find(1, Tokens(127), 3), ElementsAre(10));
  tokens[64] = -1;
  EXPECT_THAT(index.Find(1, tokens, 3), ElementsAre(10));
  tokens[63] = -1;
  EXPECT_THAT(index.Find(1, tokens, 3), IsEmpty());
}

TEST(PrefixIndexTest, OnlyEqualSaltsShare) {
  PrefixIndex index;
  index.Publish(1, Tokens(64), {10});
  EXPECT_THAT(index.Find(2, Tokens(64), 1), IsEmpty());
  EXPECT_THAT(index.Publish(2, Tokens(64), {20}), ElementsAre(20));
  EXPECT_THAT(index.Find(1, Tokens(64), 1), ElementsAre(10));
  EXPECT_THAT(index.Find(2, Tokens(64), 1), ElementsAre(20));
}

TEST(PrefixIndexTest, EqualBlocksBehindDifferentPrefixesAreDifferent) {
  PrefixIndex index;
  std::vector<int32_t> one = Tokens(64), two = Tokens(64, 1000);
  for (auto* tokens : {&one, &two}) tokens->insert(tokens->end(), 64, 7);
  index.Publish(0, one, {1, 2});
  EXPECT_THAT(index.Find(0, two, 2), IsEmpty());
  EXPECT_THAT(index.Publish(0, two, {3, 4}), ElementsAre(3, 4));
  EXPECT_THAT(index.Find(0, two, 2), ElementsAre(3, 4));
}

TEST(PrefixIndexTest, TheFirstBlockWithSomeContentStays) {
  PrefixIndex index;
  index.Publish(0, Tokens(64), {1});
  EXPECT_THAT(index.Publish(0, Tokens(128), {5, 6}), ElementsAre(6)) << "block 1 already holds the beginning";
  EXPECT_THAT(index.Find(0, Tokens(128), 2), ElementsAre(1, 6));
  EXPECT_EQ(index.size(), 2);
}

TEST(PrefixIndexTest, AnErasedBlockHidesWhatFollowsUntilPublishedAgain) {
  PrefixIndex index;
  index.Publish(0, Tokens(192), {1, 2, 3});
  index.Erase(1);
  index.Erase(99);
  EXPECT_FALSE(index.Contains(1));
  EXPECT_THAT(index.Find(0, Tokens(192), 3), IsEmpty());
  // Another block with the same beginning is another parent; the old ends take their place behind it.
  EXPECT_THAT(index.Publish(0, Tokens(192), {4, 2, 3}), ElementsAre(4, 2, 3));
  EXPECT_THAT(index.Find(0, Tokens(192), 3), ElementsAre(4, 2, 3));
  EXPECT_EQ(index.size(), 3);
}

// 64 tokens whose hash collides with that of every other `variant`: the last word cancels what came before it.
std::vector<int32_t> Colliding(int32_t variant, uint64_t seed) {
  constexpr uint64_t kMultiplierB = 0xd6e8feb86659fd93;  // of base/hash.cc
  std::vector<int32_t> tokens(kBlockTokens, variant);
  uint64_t hash = base::HashCombine(seed, kBlockTokens * sizeof(int32_t));
  for (int i = 0; i < kBlockTokens - 2; i += 2) {
    uint64_t word = 0;
    std::memcpy(&word, &tokens[i], sizeof(word));
    hash = base::HashCombine(hash, word);
  }
  const uint64_t last = (uint64_t{0} - hash) ^ kMultiplierB;
  std::memcpy(&tokens[kBlockTokens - 2], &last, sizeof(last));
  return tokens;
}

TEST(PrefixIndexTest, ACollisionIsNotBelieved) {
  constexpr uint64_t kSeed = base::HashCombine(5, 0);
  const std::vector<int32_t> one = Colliding(1, kSeed), two = Colliding(2, kSeed);
  const auto hash = [](const std::vector<int32_t>& tokens) {
    return base::Hash64({reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(int32_t)}, kSeed);
  };
  ASSERT_EQ(hash(one), hash(two)) << "the case tests nothing";
  PrefixIndex index;
  EXPECT_THAT(index.Publish(5, one, {1}), ElementsAre(1));
  EXPECT_THAT(index.Find(5, two, 1), IsEmpty());
  EXPECT_THAT(index.Publish(5, two, {2}), IsEmpty());
  EXPECT_THAT(index.Find(5, one, 1), ElementsAre(1));
}

}  // namespace
}  // namespace berth::engine
