#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/admission/rate_limiter.h"
#include "gateway/admission/wait_estimate.h"
#include "gateway/relay/metrics.h"
#include "gateway/relay/stream.h"

namespace berth::relay {

// Whom the relay lets in: the tenants' limits, of which this gateway grants its share among `gateways`, and what can still end
// in time. Times are monotonic. Thread: one owner.
class Intake {
 public:
  explicit Intake(GatewayMetrics& metrics) : metrics_(metrics) {}

  // Charges a request of a tenant with limits what it is likely to use, which is returned for Settle; nothing without limits.
  // RESOURCE_EXHAUSTED when the limits are used up.
  absl::StatusOr<std::optional<int64_t>> Charge(const GenerationRequest& request, int gateways, absl::Duration now);
  // The same for texts to embed: a request or a `further` part of one, and its tokens as far as they can be told; for Correct.
  absl::StatusOr<int64_t> Charge(const rpc::Tenant& tenant, const google::protobuf::RepeatedPtrField<v1::Prompt>& inputs,
                                 bool further, int gateways, absl::Duration now);
  // More tokens than were charged, or fewer.
  void Correct(const rpc::Tenant& tenant, int64_t tokens) { rate_limiter_.Correct(tenant, tokens); }
  // From the charge to what the stream has used.
  void Settle(const GenerationStream& stream, int64_t charged);
  admission::RateLimiter::Levels Levels(const rpc::Tenant& tenant, int gateways, absl::Duration now) {
    return rate_limiter_.Get(tenant, gateways, now);
  }

  // A request left its worker, or was cut off, after `held`, with so many tokens of output.
  void Ended(const GenerationRequest& request, absl::Duration held, int64_t tokens) {
    wait_estimate_.Ended(request.spec.priority(), held, tokens);
  }
  // How long a request would wait behind `ahead` others while `running` are at workers.
  absl::Duration LikelyWait(int priority, int ahead, int running) const {
    return wait_estimate_.Wait(priority, ahead, running);
  }
  // And how long it did, for later ones: all but few wait at most LongestWait.
  void Waited(int priority, absl::Duration likely, absl::Duration waited, absl::Duration now) {
    wait_estimate_.Waited(priority, likely, waited, now);
  }
  absl::Duration LongestWait(int priority, absl::Duration likely, absl::Duration now) const {
    return likely + wait_estimate_.Excess(priority, now);
  }
  // RESOURCE_EXHAUSTED "OVERLOADED" for a request that would not end before its deadline if it ran in `wait` from now.
  absl::Status CheckInTime(const GenerationRequest& request, absl::Duration wait, absl::Duration now) const;

 private:
  absl::Status Take(const rpc::Tenant& tenant, int64_t tokens, bool further, int gateways, absl::Duration now);

  GatewayMetrics& metrics_;
  admission::RateLimiter rate_limiter_;
  admission::WaitEstimate wait_estimate_;
};

}  // namespace berth::relay
