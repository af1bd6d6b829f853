#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"

namespace berth::engine {

// The KV blocks by id: who is free, how often each is referenced, and in which order unreferenced cached blocks are given up.
// A block freed while plans are in flight may still be written by them: it is quarantined until the last of them commits.
// Knows nothing of requests or tokens. Thread: engine thread only.
class BlockPool {
 public:
  explicit BlockPool(int blocks);

  struct Taken {
    int32_t block = 0;
    bool was_cached = false;  // the cache loses it
  };
  // A block with one reference: a free one, else the cached one unused for longest. available() must not be 0.
  Taken Take();
  // One more reference; the block must be cached or referenced.
  void Acquire(int32_t block);
  // One reference less. Release a chain from its end, so that its beginning stays cached longest.
  void Release(int32_t block);
  // Whether the block stays, unreferenced, for later users.
  void SetCached(int32_t block, bool cached);

  // Plans in flight: steps begin and commit in rising order.
  void BeginStep(uint64_t step);
  void CommitStep(uint64_t step);

  int size() const { return static_cast<int>(blocks_.size()); }
  int available() const { return static_cast<int>(free_.size()) + lru_count_; }  // what Take can hand out now
  int quarantined() const { return quarantined_; }                               // available after the steps in flight
  int unused_cached() const { return lru_count_; }                               // unreferenced and cached
  int referenced() const { return referenced_; }
  int references(int32_t block) const { return blocks_[block].references; }
  bool is_available(int32_t block) const;  // Take could hand it out now
  bool is_cached(int32_t block) const { return blocks_[block].cached; }

  // INTERNAL with the first thing that does not add up.
  absl::Status CheckInvariants() const;

 private:
  static constexpr int32_t kNone = -1;
  enum class State : uint8_t { kFree, kReferenced, kQuarantined, kUnused };

  struct Block {
    State state = State::kFree;
    bool cached = false;
    int references = 0;
    uint64_t until = 0;                    // quarantined: the step whose commit ends it
    int32_t older = kNone, newer = kNone;  // kUnused: neighbours in the LRU list
  };
  struct Quarantine {
    int32_t block = 0;
    uint64_t until = 0;
  };

  void Settle(int32_t block);  // unreferenced and not quarantined: to the LRU list or the free list
  void PushNewest(int32_t block);
  void Unlink(int32_t block);

  std::vector<Block> blocks_;
  std::vector<int32_t> free_;
  std::deque<Quarantine> quarantine_;  // by rising step; entries whose block was acquired again are stale
  int32_t oldest_ = kNone, newest_ = kNone;
  int lru_count_ = 0;
  int quarantined_ = 0;
  int referenced_ = 0;
  uint64_t begun_ = 0, committed_ = 0;
};

}  // namespace berth::engine
