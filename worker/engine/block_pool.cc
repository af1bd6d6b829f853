#include "worker/engine/block_pool.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace berth::engine {

BlockPool::BlockPool(int blocks) : blocks_(blocks) {
  free_.reserve(blocks);
  for (int32_t block = blocks - 1; block >= 0; --block) free_.push_back(block);
}

BlockPool::Taken BlockPool::Take() {
  BERTH_CHECK(available() > 0) << "no KV block is available";
  Taken taken;
  if (!free_.empty()) {
    taken.block = free_.back();
    free_.pop_back();
  } else {
    taken = {.block = oldest_, .was_cached = true};
    Unlink(oldest_);
  }
  Block& block = blocks_[taken.block];
  block.state = State::kReferenced;
  block.cached = false;
  block.references = 1;
  ++referenced_;
  return taken;
}

void BlockPool::Acquire(int32_t id) {
  Block& block = blocks_[id];
  BERTH_CHECK(block.cached || block.references > 0) << "block " << id << " holds nothing to share";
  if (block.references++ > 0) return;
  if (block.state == State::kUnused) Unlink(id);
  if (block.state == State::kQuarantined) --quarantined_;
  block.state = State::kReferenced;
  ++referenced_;
}

void BlockPool::Release(int32_t id) {
  Block& block = blocks_[id];
  BERTH_CHECK(block.references > 0) << "block " << id << " is not referenced";
  if (--block.references > 0) return;
  --referenced_;
  if (begun_ == committed_) return Settle(id);
  block.state = State::kQuarantined;
  block.until = begun_;
  quarantine_.push_back({.block = id, .until = begun_});
  ++quarantined_;
}

void BlockPool::SetCached(int32_t id, bool cached) {
  Block& block = blocks_[id];
  block.cached = cached;
  if (cached || block.state != State::kUnused) return;
  Unlink(id);
  Settle(id);
}

void BlockPool::BeginStep(uint64_t step) {
  BERTH_CHECK(step > begun_) << "step " << step << " after " << begun_;
  begun_ = step;
}

void BlockPool::CommitStep(uint64_t step) {
  BERTH_CHECK(step > committed_ && step <= begun_) << "commit of step " << step << " after " << committed_;
  committed_ = step;
  while (!quarantine_.empty() && quarantine_.front().until <= step) {
    const Quarantine entry = quarantine_.front();
    quarantine_.pop_front();
    const Block& block = blocks_[entry.block];
    if (block.state != State::kQuarantined || block.until != entry.until) continue;
    --quarantined_;
    Settle(entry.block);
  }
}

bool BlockPool::is_available(int32_t block) const {
  return blocks_[block].state == State::kFree || blocks_[block].state == State::kUnused;
}

void BlockPool::Settle(int32_t id) {
  if (blocks_[id].cached) return PushNewest(id);
  blocks_[id].state = State::kFree;
  free_.push_back(id);
}

void BlockPool::PushNewest(int32_t id) {
  Block& block = blocks_[id];
  block.state = State::kUnused;
  block.older = newest_;
  block.newer = kNone;
  (newest_ == kNone ? oldest_ : blocks_[newest_].newer) = id;
  newest_ = id;
  ++lru_count_;
}

void BlockPool::Unlink(int32_t id) {
  Block& block = blocks_[id];
  (block.older == kNone ? oldest_ : blocks_[block.older].newer) = block.newer;
  (block.newer == kNone ? newest_ : blocks_[block.newer].older) = block.older;
  block.older = block.newer = kNone;
  --lru_count_;
}

absl::Status BlockPool::CheckInvariants() const {
  int counts[4] = {};
  for (int32_t id = 0; id < size(); ++id) {
    const Block& block = blocks_[id];
    ++counts[static_cast<int>(block.state)];
    if ((block.references > 0) != (block.state == State::kReferenced)) {
      return absl::InternalError(absl::StrCat("block ", id, " has ", block.references, " references in the wrong state"));
    }
    if (block.state == State::kUnused && !block.cached) return absl::InternalError(absl::StrCat("block ", id, " leaked"));
    if (block.state == State::kFree && block.cached) {
      return absl::InternalError(absl::StrCat("block ", id, " is free and cached"));
    }
  }
  int linked = 0;
  for (int32_t id = oldest_; id != kNone; id = blocks_[id].newer) ++linked;
  if (counts[0] != static_cast<int>(free_.size()) || counts[1] != referenced_ || counts[2] != quarantined_ ||
      counts[3] != lru_count_ || linked != lru_count_) {
    return absl::InternalError(absl::StrCat("block counts disagree: free ", counts[0], " of ", free_.size(), ", referenced ",
                                            counts[1], " of ", referenced_, ", quarantined ", counts[2], " of ", quarantined_,
                                            ", unused ", counts[3], " of ", lru_count_, ", linked ", linked));
  }
  if (begun_ == committed_ && quarantined_ > 0) return absl::InternalError("blocks are quarantined with no step in flight");
  return absl::OkStatus();
}

}  // namespace berth::engine
