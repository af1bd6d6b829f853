// Scheduler::CheckInvariants and its parts.

#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/engine/scheduler.h"

namespace berth::engine {

absl::Status Scheduler::CheckInvariants() const {
  if (sequences_.size() != waiting_.size() + active_.size()) {
    return absl::InternalError(
        absl::StrCat(sequences_.size(), " sequences, of which ", waiting_.size(), " wait and ", active_.size(), " are active"));
  }
  BERTH_RETURN_IF_ERROR(pool_.CheckInvariants());
  BERTH_RETURN_IF_ERROR(CheckSlots());
  for (const auto& [id, sequence] : sequences_) BERTH_RETURN_IF_ERROR(CheckSequence(*sequence));
  return CheckBlocks();
}

absl::Status Scheduler::CheckSlots() const {
  std::vector<int> drawing(slots_.size());
  for (const Flight& flight : flights_) {
    for (const FlightRow& row : flight.rows) {
      if (row.sample && slots_[row.slot] != nullptr && slots_[row.slot]->at.generation == row.generation) ++drawing[row.slot];
    }
  }
  size_t taken = 0;
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot] == nullptr) continue;
    ++taken;
    if (slots_[slot]->at.slot != static_cast<int>(slot) || !active_.contains(slots_[slot])) {
      return absl::InternalError(absl::StrCat("slot ", slot, " holds another slot's sequence"));
    }
    if (slots_[slot]->at.drawing != drawing[slot]) {
      return absl::InternalError(
          absl::StrCat("slot ", slot, " counts ", slots_[slot]->at.drawing, " draws of ", drawing[slot]));
    }
  }
  if (taken == active_.size() && taken + free_slots_.size() == slots_.size()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(taken, " slots taken and ", free_slots_.size(), " free of ", slots_.size(), " for ",
                                          active_.size(), " active sequences"));
}

absl::Status Scheduler::CheckSequence(const Sequence& sequence) const {
  const Residence& at = sequence.at;
  const auto fail = [&](const char* what) {
    return absl::InternalError(absl::StrCat("sequence ", sequence.spec.id, " ", what, ": length ", sequence.length(),
                                            ", planned ", at.planned, ", computed ", at.computed, ", drawing ", at.drawing,
                                            ", blocks ", at.blocks.size()));
  };
  if (sequence.output() >= sequence.limit && sequence.scored >= sequence.to_score()) return fail("should have ended");
  if (sequence.spec.deadline < absl::InfiniteDuration() && !deadlines_.contains({sequence.spec.deadline, sequence.spec.id})) {
    return fail("has lost its deadline");
  }
  if (sequence.active() != active_.contains(const_cast<Sequence*>(&sequence))) return fail("is in the wrong set");
  if (!sequence.active()) return at.blocks.empty() ? absl::OkStatus() : fail("waits and holds blocks");
  const int room = static_cast<int>(at.blocks.size()) * kBlockTokens;
  if (at.sound > at.computed || at.computed > at.planned || at.planned > room) return fail("is planned beyond its blocks");
  if (room >= sequence.length() + at.drawing + 2 * kBlockTokens) return fail("holds blocks it does not need");
  if (at.decoding && at.planned != sequence.length() + at.drawing - 1) return fail("decodes at the wrong position");
  const bool computed_all = at.planned >= sequence.length() && sequence.draws();
  if (!at.decoding && (at.drawing > 0 || computed_all)) return fail("has nothing to prefill");
  return absl::OkStatus();
}

absl::Status Scheduler::CheckBlocks() const {
  std::vector<int> references(pool_.size());
  std::vector<bool> may_be_written(pool_.size());
  for (const Sequence* sequence : active_) {
    const std::vector<int32_t>& blocks = sequence->at.blocks;
    for (size_t i = 0; i < blocks.size(); ++i) {
      ++references[blocks[i]];
      if (static_cast<int>(i + 1) * kBlockTokens > sequence->at.computed) may_be_written[blocks[i]] = true;
    }
  }
  int cached = 0;
  for (int32_t block = 0; block < pool_.size(); ++block) {
    if (pool_.references(block) != references[block]) {
      return absl::InternalError(absl::StrCat("block ", block, " counts ", pool_.references(block), " references, ",
                                              references[block], " sequences hold it"));
    }
    if (pool_.is_cached(block) != index_.Contains(block)) {
      return absl::InternalError(absl::StrCat("block ", block, " is cached or in the prefix index, not both"));
    }
    if (may_be_written[block] && (references[block] > 1 || pool_.is_cached(block))) {
      return absl::InternalError(absl::StrCat("block ", block, " is shared or published before it is full"));
    }
    cached += pool_.is_cached(block);
  }
  if (cached == index_.size()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(cached, " blocks are cached, ", index_.size(), " are in the prefix index"));
}

}  // namespace berth::engine
