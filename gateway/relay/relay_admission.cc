// Who the relay lets in: the tenants' limits, and what can still end in time.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/relay/relay_state.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

// What a shed caller is told to wait at least and at most.
constexpr absl::Duration kMinRetryDelay = absl::Seconds(1);
constexpr absl::Duration kMaxRetryDelay = absl::Seconds(60);
constexpr absl::Duration kShedInterval = absl::Milliseconds(100);
// Places come in bursts, so that waits scatter about their estimate.
constexpr double kWaitMargin = 1.25;

// Until its usage is known.
int64_t PromptTokens(const v1::Prompt& prompt) {
  if (prompt.has_token_ids()) return prompt.token_ids().ids_size();
  return static_cast<int64_t>(prompt.ByteSizeLong()) / 4;
}

}  // namespace

absl::Status Relay::Admit(Stream& stream) {
  const GenerationRequest& request = stream.generation.request();
  if (request.limits == nullptr) return absl::OkStatus();
  if (request.spec.priority() > request.limits->max_priority) {
    return rpc::FieldError("priority", absl::StrCat("is ", request.spec.priority(), ", tenant ", request.tenant,
                                                    " may ask for ", request.limits->max_priority, " at most"));
  }
  const int64_t tokens = PromptTokens(request.spec.prompt());
  absl::Status status = rate_limiter_.Take(*request.limits, tokens, view_.AttachedGateways(), clock_.Monotonic());
  if (!status.ok()) {
    metrics_.RateLimited(request.tenant);
    return status;
  }
  stream.charged_tokens = tokens;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Relay::Charge(const rpc::Tenant& tenant, const google::protobuf::RepeatedPtrField<v1::Prompt>& inputs) {
  int64_t tokens = 0;
  for (const v1::Prompt& input : inputs) tokens += PromptTokens(input);
  const absl::Status status = rate_limiter_.Take(tenant, tokens, view_.AttachedGateways(), clock_.Monotonic());
  if (status.ok()) return tokens;
  metrics_.RateLimited(tenant.name);
  return status;
}

void Relay::SettleCharge(const Stream& stream) {
  if (!stream.charged_tokens.has_value()) return;
  int64_t used = stream.generation.used_tokens();
  if (!stream.generation.finished() && stream.generation.started()) {
    used = *stream.charged_tokens + stream.generation.output_tokens();
  }
  rate_limiter_.Correct(*stream.generation.request().limits, used - *stream.charged_tokens);
}

absl::Duration Relay::LikelyWait(const Stream& stream) const {
  const int ahead = queue_.CountAhead(WaitingPriority(stream));
  return kWaitMargin * wait_estimate_.Wait(stream.spec().priority(), ahead, static_cast<int>(attempts_.size()));
}

absl::Status Relay::CheckInTime(const Stream& stream, absl::Duration wait) {
  const absl::Duration deadline = stream.generation.request().deadline;
  if (deadline == absl::InfiniteDuration() || stream.resume.has_value()) return absl::OkStatus();
  const int priority = stream.spec().priority();
  const absl::Duration left = deadline - clock_.Monotonic();
  if (wait + wait_estimate_.Run(priority, stream.spec().stop().max_tokens()) <= left) return absl::OkStatus();
  return rpc::WithRetryAfter(rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "OVERLOADED",
                                                  "the request would not end before its deadline: the workers are busy"),
                             std::clamp(wait, kMinRetryDelay, kMaxRetryDelay));
}

void Relay::ShedLate() {
  const absl::Duration now = clock_.Monotonic();
  if (now < next_shed_) return;
  next_shed_ = now + kShedInterval;
  for (uint64_t id : queue_.InOrder()) {
    Stream& stream = *streams_.at(id);
    if (absl::Status late = CheckInTime(stream, absl::ZeroDuration()); !late.ok()) Shed(stream, "late", std::move(late));
  }
}

}  // namespace berth::relay
