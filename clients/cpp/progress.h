#pragma once

#include <cstdint>
#include <optional>

#include "absl/random/bit_gen_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/berth/v1/inference.pb.h"

namespace berth::client {

struct RetryOptions {
  // That may fail in a row, without a message in between; 1: none is retried.
  int attempts = 8;
  // Before the second try at a gateway, give or take a half; doubles each time. The server's own RetryInfo goes before it.
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(1);
};

// One generation over all its attempts, as its caller sees it: what is sent, what came, and whether to go on after an error.
// Pure. Thread: one owner.
class Progress {
 public:
  // Fixes what must be alike in every attempt: request id, seed, template clock.
  Progress(v1::GenerationSpec spec, const RetryOptions& options, absl::BitGenRef random, absl::Time now);

  // Of the next attempt. After a stream that broke it asks for what has not come yet.
  const v1::StreamGenerateRequest& request() const { return request_; }
  const std::string& request_id() const { return request_.generation().request_id(); }
  // A message of the running attempt; token ids that the caller did not ask for are taken out. DATA_LOSS when it does not
  // follow the one before.
  absl::Status Take(v1::StreamGenerateResponse& message);
  bool finished() const { return finished_; }

  // The attempt failed: how long to wait before the next one, of which as many are tried at once as there are gateways. Nothing
  // when `status` is the end of the generation.
  std::optional<absl::Duration> Retry(const absl::Status& status, int gateways, absl::BitGenRef random);

 private:
  absl::Status TakeTokens(v1::Delta& delta);
  v1::GenerationSpec& spec() { return *request_.mutable_generation(); }

  const RetryOptions options_;
  v1::StreamGenerateRequest request_;
  v1::ResumeFrom seen_;
  bool wants_ids_ = false, finished_ = false;
  int failures_ = 0;
};

}  // namespace berth::client
