#pragma once

#include <algorithm>
#include <chrono>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "proto/berth/v1/generation.pb.h"

namespace berth::rpc {

// Time until the caller's deadline; infinite when there is none.
inline absl::Duration TimeLeft(const grpc::ServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteDuration();
  return absl::FromChrono(deadline) - absl::Now();
}

inline absl::Status DeadlineError() { return absl::DeadlineExceededError("the request's deadline has passed"); }

// Whether the caller's deadline, `left` from now, has cut the answer short: that is DEADLINE_EXCEEDED, whichever clock rings
// first. Not of a stored turn that the deadline of an earlier call cut short.
inline bool CutShort(const v1::Finished& finished, absl::Duration left) {
  return left <= absl::ZeroDuration() &&
         std::any_of(finished.choices().begin(), finished.choices().end(),
                     [](const v1::ChoiceFinished& choice) { return choice.reason() == v1::FINISH_REASON_DEADLINE; });
}

}  // namespace berth::rpc
