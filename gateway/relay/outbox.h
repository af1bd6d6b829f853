#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "absl/status/status.h"
#include "proto/berth/v1/inference.pb.h"

namespace berth::relay {

// What waits to be sent to one caller. Deltas that the caller has not taken merge, so that a caller who is slow for a moment
// costs one message and not one per token. Every message gets its `seq` when it is taken. Thread: one owner.
class Outbox {
 public:
  struct Item {
    // One of the two is set: a message, or the end of the stream.
    std::optional<v1::StreamGenerateResponse> message;
    std::optional<absl::Status> end;
    bool more = false;  // the next one is there already
  };

  explicit Outbox(uint64_t first_seq) : next_seq_(first_seq) {}

  void Push(v1::StreamGenerateResponse message);
  // Once; nothing is pushed after it.
  void End(absl::Status status) { end_ = std::move(status); }
  // The next message; behind the last one the end, once.
  std::optional<Item> Take();

  bool has_pending() const { return !pending_.empty() || end_.has_value(); }
  bool ended() const { return end_.has_value(); }
  // Serialized size of what was pushed and not taken, at most a few bytes more per merged delta, but for the prompt's
  // log-probabilities: they come at once, and are bounded by the prompt.
  size_t pending_bytes() const { return pending_bytes_; }
  // Of the next message that is taken, and of the first that was not pushed yet.
  uint64_t next_seq() const { return next_seq_; }
  uint64_t end_seq() const { return next_seq_ + pending_.size(); }

 private:
  struct Pending {
    v1::StreamGenerateResponse message;
    size_t bytes = 0;  // that it counts
  };

  uint64_t next_seq_;
  size_t pending_bytes_ = 0;
  std::deque<Pending> pending_;
  std::optional<absl::Status> end_;
};

// Appends `next` to `delta` when both are of one choice and one kind of content, and `next` has nothing of the prompt.
// Otherwise false, and nothing changes.
bool MergeDelta(v1::Delta& delta, const v1::Delta& next);

}  // namespace berth::relay
