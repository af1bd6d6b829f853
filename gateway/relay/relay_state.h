#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gateway/relay/relay.h"

namespace berth::relay {

// The relay's records, shared by its source files.

// Of a request that was cancelled by its id.
inline absl::Status CancelledError() { return absl::CancelledError("the request was cancelled"); }

struct Relay::Stream {
  Stream(uint64_t id, GenerationRequest request, StreamSink& sink, absl::Duration now)
      : id(id), sink(&sink), accepted_at(now), generation(std::move(request)), last_tokens_at(now) {}

  const v1::GenerationSpec& spec() const { return generation.request().spec; }

  const uint64_t id;
  StreamSink* const sink;
  const absl::Duration accepted_at;
  GenerationStream generation;
  State state = State::kWaiting;
  // Of the running attempt; the worker stays for the metrics of a parked one.
  uint64_t attempt = 0;
  int worker = -1;
  // Of the stream before this one: it runs until its worker hands it over with the submit of this one, or is told to end it.
  uint64_t taken_over = 0;
  bool registered = false, notified = false, given_up = false;
  // By its id; the worker was told, and is to end it.
  bool cancelled = false;
  // Set once a worker was lost: what the next one is to continue.
  std::optional<v1::GenerationSpec> resume;
  std::optional<std::string> journal_domain;
  // It had not finished its first step when its worker died.
  bool suspect = false;
  // The running attempt has finished its first step.
  bool answered = false;
  int failovers = 0;
  // Estimated, of a tenant with limits that was let in.
  std::optional<int64_t> charged_tokens;
  // The worker that gave the stream up last; -1 when it died.
  int avoid = -1;
  SessionSearch session;
  // A failover went on and has no tokens yet.
  bool in_gap = false;
  absl::Duration waiting_since, likely_wait, submitted_at;
  // Of tokens that a caller who resumes has already, its arrival.
  absl::Duration last_tokens_at;
  std::optional<Timers::Id> deadline_timer, wait_timer, unread_timer, retry_timer;
};

class Relay::Turn {
 public:
  explicit Turn(Relay& relay) : relay_(relay) { ++relay_.turns_; }
  ~Turn() {
    if (relay_.turns_ == 1) relay_.FlushReady();
    --relay_.turns_;
  }

 private:
  Relay& relay_;
};

}  // namespace berth::relay
