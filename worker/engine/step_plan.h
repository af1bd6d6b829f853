#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/engine/sequence.h"

namespace berth::engine {

inline constexpr int kBlockTokens = 64;

// One step's orders to the device side, as deltas to what it holds per slot: block table, length, last token, sampling
// parameters, penalty counts. Order of application: retires, admits, blocks, rows.

struct RetireRecord {
  int32_t slot = 0;
  uint32_t generation = 0;
};

// A sequence enters a slot. `history` is everything known of it, for penalties; its rows carry their own tokens.
struct AdmitRecord {
  int32_t slot = 0;
  uint32_t generation = 0;    // results name (slot, generation); stale ones are dropped
  int32_t history_begin = 0;  // into tokens()
  int32_t history_length = 0;
  int32_t prompt_length = 0;  // history from here on is output
  int32_t min_length = 0;     // total length below which stop tokens are banned
  int32_t stop_begin = 0;     // into tokens()
  int32_t stop_count = 0;
  int32_t bias_begin = 0;  // into biases()
  int32_t bias_count = 0;
  int32_t bad_words_begin = 0;  // into tokens(): bad_words_count times {length, tokens …}
  int32_t bad_words_count = 0;
  int32_t rope_variant = 0;
  int32_t reserved = 0;
  Sampling sampling;
};

struct BiasRecord {
  int32_t token = 0;
  float value = 0;
};

// block_table[slot][group][index] = block.
struct BlockRecord {
  int32_t slot = 0;
  int32_t group = 0;
  int32_t index = 0;
  int32_t block = 0;
};

// Consecutive positions of one slot that this step computes. Rows of one plan name distinct slots.
struct RowRecord {
  static constexpr int32_t kLastSampled = -1;
  // The hidden states are added to the slot's sum, which position 0 begins; the last row's result is the sum.
  enum class Pool : int32_t { kNone, kAdd, kLast };

  int32_t slot = 0;
  uint32_t generation = 0;
  int32_t position = 0;     // of the first token
  int32_t count = 0;        // tokens, at least 1
  int32_t token_begin = 0;  // into tokens(), or kLastSampled: the slot's last sampled token (count is 1)
  int32_t sample = 0;       // 1: draw the token at position + count
  int32_t mask_begin = 0;   // into masks()
  int32_t mask_words = 0;   // 0: every token may be drawn
  Pool pool = Pool::kNone;  // instead of a draw
  int32_t score = 0;        // of so many of its positions, from the first on, the token behind is given in tokens() and scored
};

// A flat, pointer-free, versioned buffer; under tensor parallelism its bytes are what rank 0 sends. Immutable once built.
class StepPlan {
 public:
  static constexpr uint32_t kVersion = 4;

  StepPlan() = default;
  // INVALID_ARGUMENT when the bytes are not a plan of this version.
  static absl::StatusOr<StepPlan> FromBytes(absl::Span<const std::byte> bytes);
  absl::Span<const std::byte> bytes() const;

  uint64_t step() const;
  bool empty() const;  // no records at all
  absl::Span<const RetireRecord> retires() const;
  absl::Span<const AdmitRecord> admits() const;
  absl::Span<const BlockRecord> blocks() const;
  absl::Span<const RowRecord> rows() const;
  absl::Span<const BiasRecord> biases() const;
  absl::Span<const int32_t> tokens() const;
  absl::Span<const uint32_t> masks() const;  // a bit per token id that may be drawn

 private:
  friend class StepPlanBuilder;
  std::vector<uint64_t> words_;
};

// Collects records in any order. Thread: one at a time.
class StepPlanBuilder {
 public:
  // `rows`: how many there will be, or so.
  explicit StepPlanBuilder(uint64_t step, size_t rows = 0) : step_(step) { rows_.reserve(rows); }

  void Retire(RetireRecord record) { retires_.push_back(record); }
  // `record` needs slot and generation; the rest comes from the sequence. `tokens`: prompt and all output so far.
  void Admit(AdmitRecord record, const SequenceSpec& spec, absl::Span<const int32_t> tokens);
  void Block(BlockRecord record) { blocks_.push_back(record); }
  // A row with literal tokens. `next`: the token behind them, if there is one.
  void Row(RowRecord record, absl::Span<const int32_t> tokens, absl::Span<const int32_t> next = {});
  // A row whose single token is the one the slot sampled last.
  void DecodeRow(RowRecord record) {
    record.count = 1;
    record.token_begin = RowRecord::kLastSampled;
    rows_.push_back(record);
  }
  // Adds the mask that `row` draws under.
  void Mask(TokenConstraint& constraint, RowRecord& row);
  StepPlan Build() const;

 private:
  uint64_t step_;
  std::vector<RetireRecord> retires_;
  std::vector<AdmitRecord> admits_;
  std::vector<BlockRecord> blocks_;
  std::vector<RowRecord> rows_;
  std::vector<BiasRecord> biases_;
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> masks_;
};

}  // namespace berth::engine
