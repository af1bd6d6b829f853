#include "base/lru_map.h"

#include <gtest/gtest.h>

namespace berth::base {
namespace {

TEST(LruMapTest, ForgetsWhatWasSetLongestAgo) {
  LruMap<int, int> map(2);
  map.Set(1, 10);
  map.Set(2, 20);
  map.Set(1, 11);
  map.Set(3, 30);
  EXPECT_EQ(map.size(), 2u);
  EXPECT_EQ(map.Find(2), nullptr);
  ASSERT_NE(map.Find(1), nullptr);
  EXPECT_EQ(*map.Find(1), 11);
  EXPECT_EQ(*map.Find(3), 30);
}

}  // namespace
}  // namespace berth::base
