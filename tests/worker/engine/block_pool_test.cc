#include "worker/engine/block_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace berth::engine {
namespace {

TEST(BlockPoolTest, HandsOutEveryBlockOnceAndTakesThemBack) {
  BlockPool pool(3);
  std::set<int32_t> blocks;
  for (int i = 0; i < 3; ++i) blocks.insert(pool.Take().block);
  EXPECT_EQ(blocks.size(), 3);
  EXPECT_EQ(pool.available(), 0);
  for (const int32_t block : blocks) pool.Release(block);
  EXPECT_EQ(pool.available(), 3);
  EXPECT_EQ(pool.CheckInvariants(), absl::OkStatus());
}

TEST(BlockPoolTest, ASharedBlockIsFreeOnlyAfterItsLastRelease) {
  BlockPool pool(1);
  const int32_t block = pool.Take().block;
  pool.Acquire(block);
  pool.Release(block);
  EXPECT_EQ(pool.available(), 0);
  EXPECT_EQ(pool.references(block), 1);
  pool.Release(block);
  EXPECT_EQ(pool.available(), 1);
}

TEST(BlockPoolTest, CachedBlocksAreTakenLastAndTheLongestUnusedFirst) {
  BlockPool pool(4);
  int32_t blocks[3];
  for (int32_t& block : blocks) {
    block = pool.Take().block;
    pool.SetCached(block, true);
  }
  pool.Release(blocks[1]);
  pool.Release(blocks[0]);
  pool.Release(blocks[2]);
  EXPECT_EQ(pool.unused_cached(), 3);
  EXPECT_FALSE(pool.Take().was_cached) << "a free block was left";
  // Use makes a block the newest again.
  pool.Acquire(blocks[1]);
  pool.Release(blocks[1]);
  for (const int32_t want : {blocks[0], blocks[2], blocks[1]}) {
    const BlockPool::Taken taken = pool.Take();
    EXPECT_TRUE(taken.was_cached);
    EXPECT_EQ(taken.block, want);
    EXPECT_FALSE(pool.is_cached(want));
  }
  EXPECT_EQ(pool.CheckInvariants(), absl::OkStatus());
}

TEST(BlockPoolTest, ABlockThatLosesItsCacheEntryIsFree) {
  BlockPool pool(1);
  const int32_t block = pool.Take().block;
  pool.SetCached(block, true);
  pool.Release(block);
  pool.SetCached(block, false);
  EXPECT_EQ(pool.unused_cached(), 0);
  EXPECT_FALSE(pool.Take().was_cached);
}

TEST(BlockPoolTest, BlocksFreedWhilePlansAreInFlightWaitForTheLastOfThem) {
  BlockPool pool(2);
  const int32_t first = pool.Take().block, second = pool.Take().block;
  pool.BeginStep(1);
  pool.Release(first);
  pool.BeginStep(2);
  pool.Release(second);
  EXPECT_EQ(pool.available(), 0);
  EXPECT_EQ(pool.quarantined(), 2);
  pool.CommitStep(1);
  EXPECT_TRUE(pool.is_available(first));
  EXPECT_FALSE(pool.is_available(second));
  pool.CommitStep(2);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(pool.CheckInvariants(), absl::OkStatus());
}

TEST(BlockPoolTest, ACachedBlockIsUsableAgainDuringQuarantine) {
  BlockPool pool(1);
  const int32_t block = pool.Take().block;
  pool.SetCached(block, true);
  pool.BeginStep(1);
  pool.Release(block);
  pool.Acquire(block);
  pool.BeginStep(2);
  pool.Release(block);  // quarantined anew, until step 2
  pool.CommitStep(1);
  EXPECT_EQ(pool.available(), 0);
  pool.CommitStep(2);
  EXPECT_EQ(pool.unused_cached(), 1);
  EXPECT_EQ(pool.CheckInvariants(), absl::OkStatus());
}

}  // namespace
}  // namespace berth::engine
